"""Ids of sessions and captions: nobody can guess them, and they may say which server they are of.

    new_id("a") -> "Zk3…~a" -> server_of -> "a"

Where several servers stand behind one address, whoever routes reads the name and keeps no table.
"""

from __future__ import annotations

import re
import secrets

SERVER_NAME = r"[a-z0-9][a-z0-9-]{0,31}"  # a pattern
_BEFORE_NAME = "~"  # stands in no random text and in no name, and needs no escape in a URL
_ID = re.compile(rf"[\w-]{{22}}(?:{_BEFORE_NAME}{SERVER_NAME})?", re.ASCII)


def new_id(server: str) -> str:
    """An id of 128 random bits that ends with the server's name, if it has one."""
    return with_server(secrets.token_urlsafe(16), server)


def may_be_id(text: str) -> bool:
    """Whether `new_id` may have made it."""
    return _ID.fullmatch(text) is not None


def with_server(text: str, server: str) -> str:
    """`text` with the server's name behind it, if it has one."""
    return f"{text}{_BEFORE_NAME}{server}" if server else text


def server_of(id: str) -> str:
    """The name of the server that made an id; empty if it has none."""
    return id.partition(_BEFORE_NAME)[2]
