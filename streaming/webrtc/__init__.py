"""The only code that knows aiortc and aioice: SDP and datagrams in, RGB frames and messages out."""
