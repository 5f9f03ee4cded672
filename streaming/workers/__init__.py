"""More cores: processes that receive and decode, around one recogniser (`--workers N`).

    server -> crew.py -> process.py == link.py, slots.py == worker.py -> sessions
    remote_session.py: a session as the server holds it
    remote_batcher.py -> window_desk.py: windows on their way to the recogniser;  wire.py  as bytes

The server listens, admits, batches and recognises; each worker runs whole sessions, from packets to
signs, and sends windows. Without workers the server's own process does it all, and nothing here is
used.
"""
