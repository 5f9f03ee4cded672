"""Errors as `application/problem+json` (RFC 9457): what went wrong, as a sentence for a person."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

_log = logging.getLogger(__name__)

_TITLES = {
    400: "The request is malformed",
    401: "This server requires a token",
    404: "Not found",
    405: "This address does not accept that method",
    406: "Not available in that format",
    408: "The request took too long",
    409: "This belongs to another model",
    412: "It was changed meanwhile",
    413: "The request is too large",
    415: "The content type is wrong",
    421: "This server goes by other names",
    422: "This session can't do that",
    428: "The request must name what it changes",
    429: "Too many requests or sessions",
    500: "The server failed",
    503: "No free place for this now",
    507: "The server's disk is full",
}


class Problem(Exception):
    """A response other than success; becomes a problem+json response."""

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
    """Turn every failure of a handler into a problem, without details of the server."""
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
        _log.exception("%s %s failed", request.method, request.rel_url.path)
        return Problem(500, "The error is in the server's log; try again.").response()
