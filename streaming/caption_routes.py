"""The routes of captions: a session's signer makes an address for others, who read there.

    PUT, DELETE /whip/{id}/captions     make the address, or go on at an earlier one; take it back
    GET /captions/{id}?token=…          the page for a browser or OBS
    GET /captions/{id}/events?token=…   the lines as server-sent events
    GET /captions/{id}.vtt?token=…      the same as WebVTT, for as long as it is read

Nothing can be read before the signer makes an address. Who has one can read; an address that is
wrong, taken back or over is answered like one that never was.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from streaming.captions import CaptionLine, Captions, WebVtt
from streaming.connections import stream_to
from streaming.ids import may_be_id, new_id, server_of
from streaming.messages import ServerMessage, encode
from streaming.problems import Problem
from streaming.session import Session
from streaming.subscribers import TooManySubscribers

KEPT_S = 900.0  # captions whose session has ended wait so long for the next one
_MAX_PAUSED = 64  # of them; the one that has waited longest ends first
_BEAT_S = 15.0  # a stream without news: it is tried whether its reader is still there
_LEFT_S = 5.0  # a stream whose signer may come back at another server
_RETRY_MS = 2_000  # when a browser whose stream broke off comes again
_RETRY_AFTER_S = "15"
_CSP = {  # as of every page, but that OBS may add its user's styles, which it does by an element
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
}


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    key: str | None = None  # of captions to go on with


class CaptionRoutes:
    """`authorise`, `body_of`, `session_of` and `page_of` are the server's.

    `server` is its name. Captions with which a session goes on by their key keep their address:
    those of this server, which it may have forgotten, and with `guests` those of other servers,
    too. Then readers of such an address must be sent here (`streaming.cluster`).

    Bounds: captions that a session feeds are one a session, others `_MAX_PAUSED`; `most_readers`
    in all, and see `Captions`.
    """

    def __init__(
        self,
        *,
        server: str,
        guests: bool = False,
        most_readers: int,
        authorise: Callable[[web.Request], None],
        body_of: Callable[[web.Request], Awaitable[bytes]],
        session_of: Callable[[web.Request], Session],
        page_of: Callable[[web.Request, str, int], web.Response],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most_readers = most_readers
        self._server = server
        self._guests = guests
        self._authorise = authorise
        self._body_of = body_of
        self._session_of = session_of
        self._page_of = page_of
        self._clock_s = clock_s
        self._kept: dict[str, Captions] = {}  # by id
        self._no_token = secrets.token_urlsafe(16)  # compared where there are no captions

    def __len__(self) -> int:
        """Readers of all captions."""
        return sum(map(len, self._kept.values()))

    def routes(self) -> list[web.RouteDef]:
        captions = r"/captions/{captions:[\w~-]+}"
        return [
            web.put("/whip/{id}/captions", self._share),
            web.delete("/whip/{id}/captions", self._withdraw),
            web.get(captions, self._page),
            web.get(f"{captions}/events", self._events, allow_head=False),
            web.get(f"{captions}.vtt", self._vtt, allow_head=False),
        ]

    def guests(self) -> list[str]:
        """Ids of the captions of other servers whose signers are here now."""
        return [
            one.id
            for one in self._kept.values()
            if one.state == "live" and server_of(one.id) != self._server
        ]

    async def close(self, app: web.Application) -> None:
        """Let every stream end: the server stops. Its readers may find another one later."""
        for captions in self._kept.values():
            captions.close()
        self._kept.clear()

    # The signer

    async def _share(self, request: web.Request) -> web.Response:
        self._authorise(request)
        self._session_of(request)
        key = _key(request, await self._body_of(request))
        pipeline = self._session_of(request).pipeline  # it may have ended meanwhile
        self._end_old()
        feed = pipeline.captions
        current = feed.captions if feed is not None and feed.shown else None
        captions = next((one for one in self._kept.values() if _same(one.key, key)), None)
        if captions is None:
            captions = self._made(key) if self._may_go_on(key) else current
        status = 200
        if captions is None:
            captions, status = self._made(new_id(self._server)), 201
        if captions is not current:
            if current is not None:
                self._end(current)
            pipeline.show_captions(captions.feed())
        address = f"captions/{captions.id}"
        query = f"?token={captions.token}"
        body = {
            "page": f"{address}{query}",
            "events": f"{address}/events{query}",
            "vtt": f"{address}.vtt{query}",
            "key": captions.key,
        }
        return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})

    def _may_go_on(self, key: str) -> bool:
        """Whether the captions of a key that is not known here can have their address here."""
        return may_be_id(key) and (self._guests or server_of(key) == self._server)

    def _made(self, key: str) -> Captions:
        captions = Captions(key, self._clock_s)
        self._kept[captions.id] = captions
        return captions

    async def _withdraw(self, request: web.Request) -> web.Response:
        self._authorise(request)
        feed = self._session_of(request).pipeline.captions
        if feed is None or not feed.shown:
            raise Problem(404, "This session has no captions for others.")
        self._end(feed.captions)
        return web.Response(status=204)

    # The readers

    async def _page(self, request: web.Request) -> web.Response:
        try:
            self._captions_of(request)
            status = 200
        except Problem as problem:
            status = problem.status  # the page says so itself
        response = self._page_of(request, "captions.html", status)
        response.headers.update(_CSP)
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        def event(message: ServerMessage) -> str:
            return f"data: {encode(message)}\n\n"

        captions = self._captions_of(request)
        head = f"retry: {_RETRY_MS}\n\n"
        return await self._stream(
            request, captions, "text/event-stream", head=head, text_of=event, beat=":\n\n"
        )

    async def _vtt(self, request: web.Request) -> web.StreamResponse:
        def cue(message: ServerMessage) -> str:
            return vtt.cue(message) if isinstance(message, CaptionLine) else ""

        captions = self._captions_of(request)
        vtt = WebVtt(captions.since_began_s())
        return await self._stream(
            request, captions, "text/vtt", head=vtt.head(), text_of=cue, beat="\n"
        )

    async def _stream(
        self,
        request: web.Request,
        captions: Captions,
        content_type: str,
        *,
        head: str,
        text_of: Callable[[ServerMessage], str],
        beat: str,
    ) -> web.StreamResponse:
        """Write messages until the captions end, or the reader goes away or is too slow."""
        response = stream_to(request, f"{content_type}; charset=utf-8")
        try:
            if len(self) >= self.most_readers:
                raise TooManySubscribers(
                    f"{self.most_readers} readers of captions are here already"
                )
            with captions.reader() as outbox:
                await response.prepare(request)
                await response.write(head.encode())
                while True:
                    try:
                        left = self._guests and captions.state == "paused"
                        async with asyncio.timeout(_LEFT_S if left else _BEAT_S):
                            message = await outbox.take()
                    except TimeoutError:
                        self._end_old()
                        if left:
                            break  # the signer may be at another server by now: come again
                        await response.write(beat.encode())
                        continue
                    if message is None:
                        break
                    if text := text_of(message):
                        await response.write(text.encode())
        except TooManySubscribers as error:
            raise Problem(429, f"{error}.", Retry_After=_RETRY_AFTER_S) from error
        except ConnectionResetError:
            pass  # the reader has gone
        return response

    def _captions_of(self, request: web.Request) -> Captions:
        """The captions that the address names, if its token is theirs.

        Raises:
            Problem: 404, the same whatever is wrong.
        """
        self._end_old()
        captions = self._kept.get(request.match_info["captions"])
        expected = self._no_token if captions is None else captions.token
        right = _same(expected, request.query.get("token", ""))
        if captions is None or not right:
            raise Problem(404, "There are no captions at this address, or not any more.")
        return captions

    def _end_old(self) -> None:
        """End the captions whose session ended too long ago, or that are too many."""
        paused = sorted(
            (one for one in self._kept.values() if one.state == "paused"),
            key=lambda captions: captions.paused_s,
        )
        now_s = self._clock_s()
        for place, captions in enumerate(paused):
            if now_s - captions.paused_s > KEPT_S or place < len(paused) - _MAX_PAUSED:
                self._end(captions)

    def _end(self, captions: Captions) -> None:
        self._kept.pop(captions.id, None)
        captions.end()


def _key(request: web.Request, body: bytes) -> str:
    """The key that the body names, "" for none.

    Raises:
        Problem: 400 or 415.
    """
    if not body:
        return ""
    if request.content_type != "application/json":
        raise Problem(415, "Send the key as application/json, or nothing.")
    try:
        return msgspec.json.decode(body, type=_Request).key or ""
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f'Send {{"key": …}} or nothing: {error}.') from None


def _same(secret: str, given: str) -> bool:
    return hmac.compare_digest(secret.encode(), given.encode("utf-8", "replace"))
