"""The language model that the operator named: one request to its server, and the text that streams.

    messages -> [language model] -> HTTP, server-sent events -> text

The server may be anything and answer anything. Its answer is bounded in time and bytes, redirects
are not followed, and whatever goes wrong becomes a `ModelError`, whose text a person can read and
whose details are in the log. The key is in no text.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator

import aiohttp

from models.command_line import printable
from streaming.draft import ChunkReader, StreamError
from streaming.settings import DraftSettings

_log = logging.getLogger(__name__)

_MAX_TOKENS = 1024  # that the model is asked to write at most; some think aloud first
_MAX_BYTES = 1024 * 1024  # of an answer: each token comes in an event of 200 to 300 bytes
_CONNECT_S = 5.0
_MAX_READ = 16 * 1024  # bytes of a refusal
_MAX_LOGGED = 200  # characters of a refusal
ENDLESS = "The language model did not come to an end; the rest was not read."

# What the operator should look at, by the status of a refusal.
_REFUSALS = {
    401: "refused this server's key (401). Its operator should check LIVEGLOSS_DRAFT_KEY or "
    "--draft-key-file",
    403: "does not let this server in (403). Its operator should check the key",
    404: "has no such address, or no model of that name (404). This server's operator should check "
    "--draft-url and --draft-model",
    429: "is busy (429). Try again in a minute",
}


class ModelError(Exception):
    """There is no draft, or no more of it. `code` names the reason for programs: `unreachable`,
    `refused`, `redirect`, `type`, `broken`, `cut`, `late`, `length` or `endless`."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class LanguageModel:
    """An OpenAI-compatible server. Each request has a connection of its own and leaves nothing."""

    def __init__(self, settings: DraftSettings) -> None:
        self._settings = settings
        self._headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if settings.key is not None:
            self._headers["Authorization"] = f"Bearer {settings.key}"

    async def stream(self, messages: list[dict[str, str]]) -> AsyncGenerator[str, None]:
        """The model's text, as it comes. Closing the iterator ends the request.

        Bounds: `timeout_s` for all of it, `_MAX_BYTES` bytes.

        Raises:
            ModelError: before any text, or after some of it.
        """
        settings = self._settings
        body = {
            "model": settings.model,
            "messages": messages,
            "stream": True,
            "max_tokens": _MAX_TOKENS,
            "temperature": 0,
        }
        timeout = aiohttp.ClientTimeout(total=settings.timeout_s, sock_connect=_CONNECT_S)
        async with aiohttp.ClientSession(
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a small answer must not become a large one
        ) as http:
            try:
                async with http.post(
                    settings.endpoint, json=body, headers=self._headers, allow_redirects=False
                ) as response:
                    await self._check(response)
                    async for text in self._texts(response):
                        yield text
            except TimeoutError as error:
                if isinstance(error, aiohttp.ConnectionTimeoutError):
                    raise self._unreachable(error) from error
                text = f"The language model was not ready within {settings.timeout_s:g} seconds."
                raise ModelError("late", text) from error
            except aiohttp.ClientConnectorError as error:
                raise self._unreachable(error) from error
            except (aiohttp.ClientError, ValueError, OSError) as error:
                self._tell(type(error).__name__, str(error))
                text = "The language model's server broke the connection off."
                raise ModelError("cut", text) from error

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raises ModelError for all but a stream of events."""
        status = response.status
        if 300 <= status < 400:
            self._tell(str(status), response.headers.get("Location", ""))
            text = (
                f"The language model's server sends its callers elsewhere ({status}), which is not "
                "followed. This server's operator should name the right address with --draft-url."
            )
            raise ModelError("redirect", text)
        if status != 200:
            # Who refuses a key may repeat it, in part, too.
            said = b"" if status in (401, 403) else await response.content.read(_MAX_READ)
            self._tell(str(status), said.decode("utf-8", "replace"))
            why = f"failed ({status}). Try again later"
            if status < 500:
                why = f"did not take the request ({status}). This server's log has the reason"
            why = _REFUSALS.get(status, why)
            raise ModelError("refused", f"The language model's server {why}.")
        coding = response.headers.get("Content-Encoding", "identity")
        if response.content_type != "text/event-stream" or coding != "identity":
            self._tell("wrong type", f"{response.content_type} {coding}")
            what = f"{response.content_type[:40]} instead of a stream of events"
            if coding != "identity":
                what = "compressed data, which was not asked for"
            text = (
                f"The language model's server sent {printable(what)}. This server's operator "
                "should check that --draft-url names an OpenAI-compatible server."
            )
            raise ModelError("type", text)

    async def _texts(self, response: aiohttp.ClientResponse) -> AsyncGenerator[str, None]:
        reader, left, written = ChunkReader(), _MAX_BYTES, False
        async for data in response.content.iter_any():
            left -= len(data)
            if left < 0:
                raise ModelError("endless", ENDLESS)
            try:
                text = reader.read(data)
            except StreamError as error:
                self._tell("broken stream", data.decode("utf-8", "replace"))
                text = f"The language model's server broke off: {error}."
                raise ModelError("broken", text) from error
            if text:
                written = True
                yield text
            if reader.finish == "length":
                text = "The draft stops here: the model had reached the longest text it may write."
                raise ModelError("length", text)
            if reader.finish is not None:
                return
        if not written:
            text = (
                "The language model's server sent no chat completion. This server's operator "
                "should check --draft-url."
            )
            raise ModelError("broken", text)
        text = "The language model's server ended in the middle; the draft may lack its end."
        raise ModelError("cut", text)

    def _unreachable(self, error: Exception) -> ModelError:
        self._tell("unreachable", str(error))
        text = "The language model's server can't be reached. It may be starting, or be off."
        if isinstance(error, aiohttp.ClientSSLError):
            text = "The language model's server has no certificate that this server trusts."
        return ModelError("unreachable", text)

    def _tell(self, what: str, details: str) -> None:
        """Log for the operator what a page is told in general words only."""
        if self._settings.key is not None:
            details = details.replace(self._settings.key, "…")
        _log.warning("language model at --draft-url: %s %s", what, printable(details[:_MAX_LOGGED]))
