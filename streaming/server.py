"""The HTTP routes: signalling, events, taught signs, health, metrics, the page.

request -> [server] -> admission, a session -> response
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

import web as page
from streaming.admission import Admission
from streaming.batcher import Batcher
from streaming.load import LoadMeter
from streaming.metrics import ServerMetrics
from streaming.problems import Problem, problems
from streaming.runner import Runner
from streaming.session import Session
from streaming.settings import Settings
from streaming.subscribers import TooManySubscribers
from streaming.taught_signs import SignRoutes
from streaming.webrtc.ice import CandidateRules, ice_servers
from streaming.webrtc.offer import Offer, OfferError, check_offer, parse_trickle

_log = logging.getLogger(__name__)

_PAGE = Path(page.__file__).parent
_PAGE_FILES = {".html", ".js", ".css", ".svg"}
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
    ) -> None:
        self.settings = settings
        self.bundle = runners[0].bundle
        self.device = ", ".join(runner.device for runner in runners)
        self.batcher = batcher
        self.sessions = sessions
        self.load = load
        self.url = ""
        # A public server does not let an offer make it send STUN into private networks.
        self._rules = CandidateRules(
            private=not settings.session.public, loopback=settings.session.loopback_ice
        )
        self._numbers = ServerMetrics(
            max_sessions=settings.server.max_sessions,
            sessions=sessions,
            load=load,
            batcher=batcher,
            runners=runners,
        )
        self._signs = SignRoutes(
            self.bundle.space,
            settings.server,
            authorise=self._authorise,
            session_of=self._session,
        )

    def app(self) -> web.Application:
        app = web.Application(
            client_max_size=self.settings.server.body_bytes, middlewares=[problems]
        )
        app.on_response_prepare.append(self._secure)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/static/{name}", self._page),
                web.post("/whip", self._offer),
                web.patch("/whip/{id}", self._trickle),
                web.delete("/whip/{id}", self._delete),
                web.get("/whip/{id}/events", self._events),
                *self._signs.routes(),
                web.get("/api/model", self._model),
                web.get("/api/ice", self._ice),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        return app

    # Signalling (WHIP, RFC 9725)

    async def _offer(self, request: web.Request) -> web.Response:
        self._authorise(request)
        if request.content_type != "application/sdp":
            raise Problem(415, "Send the offer as application/sdp.")
        address = request.remote or ""
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
        location = f"/whip/{session.id}"
        headers = [("Location", location), ("ETag", session.etag)]
        return web.Response(
            status=201, body=answer.encode(), content_type="application/sdp", headers=headers
        )

    def _refused(self, error: OfferError) -> Problem:
        """The response to a refused offer or fragment; a 503 says when to ask again."""
        later = {"Retry_After": str(self.sessions.retry_after_s)} if error.status == 503 else {}
        return Problem(error.status, str(error), **later)

    async def _trickle(self, request: web.Request) -> web.Response:
        self._authorise(request)
        session = self._session(request)
        if request.content_type != "application/trickle-ice-sdpfrag":
            raise Problem(415, "Send candidates as application/trickle-ice-sdpfrag.")
        if request.headers.get("If-Match", session.etag) not in (session.etag, "*"):
            raise Problem(412, "If-Match does not name this session's ICE generation.")
        try:
            fragment = parse_trickle(await self._text(request), self._rules)
            await session.add_fragment(fragment)
        except OfferError as error:
            raise self._refused(error) from error
        return web.Response(status=204, headers={"ETag": session.etag})

    async def _delete(self, request: web.Request) -> web.Response:
        self._authorise(request)
        session = self._session(request)
        session.end("deleted")
        await asyncio.wait([session.ended])
        return web.Response(status=200)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
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

    # The model, the server's state, the page

    async def _model(self, request: web.Request) -> web.Response:
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
        }
        return web.json_response(model)

    async def _ice(self, request: web.Request) -> web.Response:
        self._authorise(request)
        session = self.settings.session
        servers = ice_servers(session.ice_servers, session.turn_secret)
        return web.json_response({"ice_servers": servers}, headers={"Cache-Control": "no-store"})

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def _readyz(self, request: web.Request) -> web.Response:
        why = self.sessions.not_ready()
        if why is not None:
            raise Problem(503, why, Retry_After=str(self.sessions.retry_after_s))
        return web.json_response({"status": "ready"})

    async def _metrics(self, request: web.Request) -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=self._numbers.render(), headers=headers)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        path = _PAGE / request.match_info.get("name", "index.html")
        if path.parent != _PAGE or path.suffix not in _PAGE_FILES or not path.is_file():
            raise Problem(404, "The page has no such file.")
        return web.FileResponse(path, headers={"Cache-Control": "no-cache"})

    # Shared by several routes

    def _new_session(self, address: str, offer: Offer) -> Session:
        return Session(
            id=secrets.token_urlsafe(16),
            address=address,
            offer=offer,
            settings=self.settings.session,
            bundle=self.bundle,
            batcher=self.batcher,
            pace=self.load.pace,
        )

    def _session(self, request: web.Request) -> Session:
        session = self.sessions.get(request.match_info["id"])
        if session is None:
            raise Problem(404, "The session has ended, or never existed. Send a new offer.")
        return session

    def _authorise(self, request: web.Request) -> None:
        token = self.settings.server.token
        if token is None:
            return
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise Problem(401, "Send 'Authorization: Bearer TOKEN'.", WWW_Authenticate="Bearer")

    async def _text(self, request: web.Request) -> str:
        try:
            return (await request.read()).decode("utf-8")
        except UnicodeDecodeError:
            raise Problem(400, "The body is not UTF-8 text.") from None

    async def _secure(self, request: web.Request, response: web.StreamResponse) -> None:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
