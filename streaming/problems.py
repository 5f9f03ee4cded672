"""Errors as `application/problem+json` (RFC 9457): what went wrong, in words for a person."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

_log = logging.getLogger(__name__)

_TITLES = {
    400: "The request can't be understood",
    401: "A token is needed",
    404: "There is no such thing here",
    405: "That method is not for this address",
    406: "That form is not available",
    408: "The request took too long",
    409: "That belongs to another model",
    412: "It has changed since",
    413: "The request is too large",
    415: "The content type is not the right one",
    422: "That can't be done with this session",
    429: "Too many",
    500: "The server failed",
    503: "No room for another session now",
}

GONE = "The session has ended, or never was."


class Problem(Exception):
    """An answer other than success; becomes a problem+json response."""

    def __init__(self, status: int, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def response(self) -> web.Response:
        body = {
            "type": "about:blank",
            "title": _TITLES.get(self.status, "The request failed"),
            "status": self.status,
            "detail": self.detail,
        }
        return web.Response(
            status=self.status,
            body=json.dumps(body).encode(),
            content_type="application/problem+json",
            headers=self.headers,
        )


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn every failure of a handler into a problem, and tell nothing of our insides."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return Problem(error.status, error.reason, **allowed).response()
    except Exception:
        _log.exception("failed to answer %s %s", request.method, request.rel_url.path)
        return Problem(500, "The fault is logged on the server; try again.").response()
