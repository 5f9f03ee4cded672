"""The HTTP routes: signalling, events, taught signs, health, metrics, the page.

request -> [server] -> admission, a session -> response
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

import web as page
from streaming.admission import Admission
from streaming.batcher import Batcher
from streaming.callers import CallerRules
from streaming.caption_routes import CaptionRoutes
from streaming.connections import Connections, stream_to
from streaming.drafts import DraftRoutes
from streaming.ids import new_id
from streaming.load import LoadMeter
from streaming.metrics import ServerMetrics
from streaming.page_files import PageFiles
from streaming.problems import Problem, problems
from streaming.runner import Runner
from streaming.session import Session
from streaming.settings import Settings
from streaming.subscribers import TooManySubscribers
from streaming.taught_signs import SignRoutes
from streaming.webrtc.ice import CandidateRules, ice_servers
from streaming.webrtc.offer import Offer, OfferError, check_offer, parse_trickle

_log = logging.getLogger(__name__)

_SDP = "application/sdp"
_FRAGMENT = "application/trickle-ice-sdpfrag"
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Permissions-Policy": "camera=(self), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server:
    """Routes over a warm recogniser. Made by `streaming.app.serve`."""

    def __init__(
        self,
        settings: Settings,
        *,
        runners: Sequence[Runner],
        batcher: Batcher,
        sessions: Admission,
        load: LoadMeter,
        callers: CallerRules,
        connections: Connections,
    ) -> None:
        self.settings = settings
        self.bundle = runners[0].bundle
        self.device = ", ".join(runner.device for runner in runners)
        self.batcher = batcher
        self.sessions = sessions
        self.load = load
        self.url = ""
        self.callers = callers
        self._page = PageFiles(Path(page.__file__).parent)
        # A public server does not let an offer make it send STUN into private networks.
        self._rules = CandidateRules(
            private=not settings.session.public, loopback=settings.session.loopback_ice
        )
        self._drafts = DraftRoutes(
            settings.draft,
            authorise=self.callers.authorise,
            body_of=self._body,
            session_of=self._session,
        )
        self._numbers = ServerMetrics(
            max_sessions=settings.server.max_sessions,
            sessions=sessions,
            load=load,
            batcher=batcher,
            runners=runners,
            connections=connections,
            connections_limit=settings.server.connections,
            drafts=self._drafts,
        )
        self._signs = SignRoutes(
            self.bundle.space,
            settings.server,
            authorise=self.callers.authorise,
            body_of=self._body,
            session_of=self._session,
        )
        self._captions = CaptionRoutes(
            server=settings.server.name,
            guests=settings.cluster.ray is not None,
            most_readers=settings.server.connections // 2,
            authorise=self.callers.authorise,
            body_of=self._body,
            session_of=self._session,
            page_of=self._page.response,
        )

    @property
    def description(self) -> str:
        """Which model it serves, and on what."""
        bundle = self.bundle
        return f"model {bundle.name}, {len(bundle.glosses)} glosses, {self.device}"

    def guests(self) -> list[str]:
        """Ids of captions that other servers made, and whose signers are here now."""
        return self._captions.guests()

    def app(self) -> web.Application:
        app = web.Application(
            client_max_size=self.settings.server.body_bytes, middlewares=[problems, self._enter]
        )
        app.on_response_prepare.append(self._secure)
        app.on_shutdown.append(self._captions.close)
        app.add_routes(
            [
                *self._page.routes(),
                web.post("/whip", self._offer),
                web.patch("/whip/{id}", self._trickle),
                web.delete("/whip/{id}", self._delete),
                web.get("/whip/{id}/events", self._events, allow_head=False),
                *self._signs.routes(),
                *self._captions.routes(),
                *self._drafts.routes(),
                web.get("/api/model", self._model),
                web.get("/api/figures/{gloss}", self._figure),
                web.get("/api/ice", self._ice),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        return app

    @web.middleware
    async def _enter(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Refuse names that are not ours; answer a client that asks what it may send."""
        self.callers.check_host(request)
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as error:
            if request.method != "OPTIONS":
                raise
            headers = {"Allow": ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))}
            if "POST" in error.allowed_methods:
                is_draft = request.path.endswith("/draft")
                headers["Accept-Post"] = "application/json" if is_draft else _SDP
            if "PATCH" in error.allowed_methods:
                headers["Accept-Patch"] = _FRAGMENT
            return web.Response(headers=headers)

    # Signalling (WHIP, RFC 9725)

    async def _offer(self, request: web.Request) -> web.Response:
        self.callers.authorise(request)
        if request.content_type != _SDP:
            raise Problem(415, f"Send the offer as {_SDP}.")
        address = self.callers.address(request)
        self.sessions.check(address)  # first: checking hundreds of offers takes time, too
        try:
            offer = check_offer(await self._text(request), self._rules)
        except OfferError as error:
            self.sessions.counts.refused["offer"] += 1
            raise self._refused(error) from error

        def make() -> Session:
            if request.transport is None:
                self.sessions.counts.refused["gone"] += 1
                raise Problem(408, "The caller closed the connection before the SDP answer.")
            return self._new_session(address, offer)

        async with self.sessions.admitted(address, make) as session:
            try:
                answer = await asyncio.shield(session.answer)
            except OfferError as error:
                raise self._refused(error) from error
            except asyncio.CancelledError:
                session.end("abandoned")
                raise
        # A proxy may have put this server below a path that it does not know: then relative to the
        # request's URL. Other clients get the whole path, since some do not resolve a relative one.
        root = "" if self.callers.is_proxied(request) else "/"
        headers = [("Location", f"{root}whip/{session.id}"), ("ETag", session.etag)]
        headers += [("Link", _link(one)) for one in self._ice_servers()]
        return web.Response(status=201, body=answer.encode(), content_type=_SDP, headers=headers)

    def _refused(self, error: OfferError) -> Problem:
        """The response to a refused offer or fragment; a 503 says when to ask again."""
        later = {"Retry_After": str(self.sessions.retry_after_s)} if error.status == 503 else {}
        return Problem(error.status, str(error), **later)

    async def _trickle(self, request: web.Request) -> web.Response:
        self.callers.authorise(request)
        session = self._session(request)
        if request.content_type != _FRAGMENT:
            raise Problem(415, f"Send candidates as {_FRAGMENT}.")
        expected = request.headers.get("If-Match")
        if expected is None:
            raise Problem(428, "Send If-Match with the ETag that came with the SDP answer.")
        # RFC 9725 writes "*" with its quotes, RFC 9110 without.
        if not {session.etag, "*", '"*"'} & {tag.strip() for tag in expected.split(",")}:
            raise Problem(412, "If-Match does not name this session's ICE generation.")
        try:
            fragment = parse_trickle(await self._text(request), self._rules)
            if fragment.ufrag not in (None, session.ice_name):
                raise Problem(422, "This server can't restart ICE: send a new offer instead.")
            await session.add_fragment(fragment)
        except OfferError as error:
            raise self._refused(error) from error
        return web.Response(status=204, headers={"ETag": session.etag})

    async def _delete(self, request: web.Request) -> web.Response:
        self.callers.authorise(request)
        session = self._session(request)
        session.end("deleted")
        await asyncio.wait([session.ended])
        return web.Response(status=200)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request)
        response = stream_to(request, "text/event-stream")
        try:
            with session.event_stream() as outbox:
                await response.prepare(request)
                while (text := await outbox.take_text()) is not None:
                    await response.write(f"data: {text}\n\n".encode())
        except TooManySubscribers as error:
            raise Problem(429, str(error)) from error
        except ConnectionResetError:
            _log.debug("a client closed an event stream of session %s", session.id[:6])
        return response

    # The model, the server's state

    async def _model(self, request: web.Request) -> web.Response:
        self.callers.authorise(request)
        bundle = self.bundle
        width, height = bundle.encoder.camera_size
        camera = {"width": width, "height": height, "frame_rate": bundle.encoder.fps}
        model = {
            **bundle.card,
            "glosses": list(bundle.glosses),
            "camera": camera,
            # until a session changes its own
            "threshold": self.settings.session.threshold or bundle.threshold,
            "signs": self._signs.limits(),
            "draft": self._drafts.offer(),
            "figures": list(bundle.figures),
        }
        response = web.json_response(model)
        response.enable_compression()  # a card has tens of kilobytes
        return response

    async def _figure(self, request: web.Request) -> web.Response:
        """How a gloss is signed: the bytes of `models.drawn_figure`."""
        self.callers.authorise(request)
        gloss = unicodedata.normalize("NFC", request.match_info["gloss"])
        content = self.bundle.figures.get(gloss)
        if content is None:
            raise Problem(404, "There is no drawn figure of this gloss.")
        tag = hashlib.sha256(content).hexdigest()[:16]
        # Kept for an hour, then asked for again: a new bundle may be served at this address.
        headers = {"Cache-Control": "private, max-age=3600", "ETag": f'"{tag}"'}
        if any(known.value == tag for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        response = web.Response(
            body=content, content_type="application/octet-stream", headers=headers
        )
        response.enable_compression()
        return response

    async def _ice(self, request: web.Request) -> web.Response:
        self.callers.authorise(request)
        servers = self._ice_servers()
        return web.json_response({"ice_servers": servers}, headers={"Cache-Control": "no-store"})

    def _ice_servers(self) -> list[dict[str, Any]]:
        session = self.settings.session
        return ice_servers(session.ice_servers, session.turn_secret)

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def _readyz(self, request: web.Request) -> web.Response:
        why = self.sessions.not_ready()
        if why is not None:
            raise Problem(503, why, Retry_After=str(self.sessions.retry_after_s))
        return web.json_response({"status": "ready"})

    async def _metrics(self, request: web.Request) -> web.Response:
        self.callers.authorise(request)
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=self._numbers.render(), headers=headers)

    # Shared by several routes

    def _new_session(self, address: str, offer: Offer) -> Session:
        return Session(
            id=new_id(self.settings.server.name),
            address=address,
            offer=offer,
            settings=self.settings.session,
            bundle=self.bundle,
            batcher=self.batcher,
            pace=self.load.pace,
        )

    def _session(self, request: web.Request) -> Session:
        id = request.match_info["id"]
        session = self.sessions.get(id)
        if session is None:
            why = self.sessions.failure(id) or "The session has ended, or never existed."
            raise Problem(404, f"{why} Send a new offer.")
        return session

    async def _text(self, request: web.Request) -> str:
        try:
            return (await self._body(request)).decode("utf-8")
        except UnicodeDecodeError:
            raise Problem(400, "The body is not UTF-8 text.") from None

    async def _body(self, request: web.Request) -> bytes:
        """The whole body.

        Raises:
            Problem: 408 when it does not come in time, 400 when its encoding is broken.
        """
        body_s = self.settings.server.body_s
        try:
            async with asyncio.timeout(body_s):
                return await request.read()
        except TimeoutError:
            raise Problem(408, f"The body did not arrive within {body_s:g} seconds.") from None
        except web.RequestPayloadError:
            raise Problem(400, "The body's encoding is broken.") from None

    async def _secure(self, request: web.Request, response: web.StreamResponse) -> None:
        for name, value in (_HEADERS | self.callers.cors(request)).items():
            response.headers.setdefault(name, value)


def _link(ice_server: dict[str, Any]) -> str:
    """An ICE server as the Link header of an SDP answer (RFC 9725, section 4.6)."""
    (url,) = ice_server["urls"]
    link = f'<{url}>; rel="ice-server"'
    if "credential" in ice_server:
        link += f'; username="{ice_server["username"]}"'
        link += f'; credential="{ice_server["credential"]}"; credential-type="password"'
    return link
