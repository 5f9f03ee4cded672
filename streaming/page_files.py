"""The page's files, and the modules that other sites load from here.

GET /, /static/{name}    the page
GET /livegloss.js        the recogniser as a module for other sites
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from streaming.problems import Problem

_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
# A page of any origin may load the modules, which hold no secret: `livegloss.js` then says in words
# that the server does not let that origin use it.
_FOR_ALL_PAGES = {"Access-Control-Allow-Origin": "*"}


@dataclass(frozen=True, slots=True)
class _PageFile:
    name: str
    type: str
    content: bytes
    packed: bytes  # the same by gzip: a third of it
    tag: str  # changes with the content


class PageFiles:
    """The files of a folder, read at the start: no path that a client names reaches the disk."""

    def __init__(self, folder: Path) -> None:
        self._files = {file.name: file for file in _read(folder)}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._page),
            web.get("/static/{name}", self._page),
            web.get("/livegloss.js", self._module),
        ]

    def response(self, request: web.Request, name: str, status: int = 200) -> web.Response:
        """The file of that name, packed for who takes it so; 304 where the client has it already.

        Raises:
            Problem: 404, there is no such file.
        """
        file = self._files.get(name)
        if file is None:
            raise Problem(404, "The page has no such file.")
        # a weak tag, which stands for the packed content, too
        headers = {
            "Cache-Control": "no-cache",
            "ETag": f'W/"{file.tag}"',
            "Vary": "Accept-Encoding, Origin",
        }
        if file.type == _TYPES[".js"]:
            headers |= _FOR_ALL_PAGES
        known = request.if_none_match or ()
        if status == 200 and any(one.value == file.tag for one in known):
            return web.Response(status=304, headers=headers)
        packed = "gzip" in request.headers.get("Accept-Encoding", "")
        if packed:
            headers["Content-Encoding"] = "gzip"
        return web.Response(
            status=status,
            body=file.packed if packed else file.content,
            content_type=file.type,
            charset="utf-8",
            headers=headers,
        )

    async def _page(self, request: web.Request) -> web.Response:
        return self.response(request, request.match_info.get("name", "index.html"))

    async def _module(self, request: web.Request) -> web.Response:
        """What other sites import; the modules that it needs lie beside it in the page's folder."""
        return web.Response(
            text='export * from "./static/livegloss.js";\n',
            content_type=_TYPES[".js"],
            headers={"Cache-Control": "no-cache", **_FOR_ALL_PAGES},
        )


def _read(folder: Path) -> Iterator[_PageFile]:
    for path in folder.iterdir():
        if path.suffix in _TYPES:
            content = path.read_bytes()
            tag = hashlib.sha256(content).hexdigest()[:16]
            yield _PageFile(path.name, _TYPES[path.suffix], content, gzip.compress(content), tag)
