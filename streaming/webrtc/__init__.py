"""All that knows aiortc and aioice: SDP offers and datagrams in; RGB frames and messages out."""
