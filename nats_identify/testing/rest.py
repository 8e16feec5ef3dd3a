"""Discord's REST side: what a bot asks before it connects, and wrong answers to order; it opens no session."""

import asyncio
import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from aiohttp import web

from nats_identify.testing import payloads
from nats_identify.testing.backend import Backend
from nats_identify.testing.events import RestAnswered

ERROR_RESPONSES_MAX: Final = 10_000
"""Scripted responses that wait at most; a longer script is a mistake."""


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """One wrong answer to ``GET /gateway/bot``.

    Attributes:
        status: the HTTP status; 0 gives no answer at all until the client or the gateway goes away.
        body: the answer's text.
        headers: of the answer, by name.
    """

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def too_many_requests(cls, retry_after_s: float) -> Self:
        """Rate-limited: 429 with ``Retry-After`` (whole seconds, rounded up) and JSON ``retry_after``."""
        body = {"message": "You are being rate limited.", "retry_after": retry_after_s, "global": False}
        return cls(429, json.dumps(body), {"Retry-After": str(math.ceil(retry_after_s))})

    @classmethod
    def server_error(cls, status: int = 503) -> Self:
        """Discord is ill: a 5xx with a page of text."""
        return cls(status, "upstream connect error", {"Content-Type": "text/plain"})

    @classmethod
    def unauthorized(cls) -> Self:
        """The token is not valid (any more)."""
        return cls(401, json.dumps({"message": "401: Unauthorized", "code": 0}))

    @classmethod
    def hang(cls) -> Self:
        """No answer."""
        return cls(0)

    @classmethod
    def nonsense(cls, body: str = "<html>") -> Self:
        """200 with a body that is no answer to the question."""
        return cls(200, body)

    @classmethod
    def figures(cls, *, max_concurrency: object = 0, total: object = 1000, remaining: object = 1000) -> Self:
        """200 with well-formed JSON and figures that make no sense."""
        limit = {
            "total": total,
            "remaining": remaining,
            "reset_after": 0,
            "max_concurrency": max_concurrency,
        }
        return cls(200, json.dumps({"url": "ws://127.0.0.1", "shards": 1, "session_start_limit": limit}))


class Rest:
    """The REST routes of one gateway, below ``/api/v{version}``."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._script: deque[ErrorResponse] = deque()
        self._lookup_script: deque[ErrorResponse] = deque()
        self._closing = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to serve."""
        return [
            web.get(r"/api/v{version:\d+}/gateway", self._gateway),
            web.get(r"/api/v{version:\d+}/gateway/bot", self._gateway_bot),
            web.get(r"/api/v{version:\d+}/users/@me", self._user),
            web.get(r"/api/v{version:\d+}/oauth2/applications/@me", self._application),
            web.get(r"/api/v{version:\d+}/applications/@me", self._application),
            web.get(r"/api/v{version:\d+}/applications/{id}/commands", self._commands),
        ]

    def misbehave(self, *script: ErrorResponse, lookup: bool = False) -> None:
        """Answer the next requests for ``/gateway/bot`` like this, one each, and then properly again.

        With ``lookup`` those for ``/gateway``.

        Raises:
            ValueError: too many would wait.
        """
        wanted = self._lookup_script if lookup else self._script
        if len(wanted) + len(script) > ERROR_RESPONSES_MAX:
            message = f"more than {ERROR_RESPONSES_MAX} wrong answers would wait; order fewer at a time"
            raise ValueError(message)
        wanted.extend(script)

    def close(self) -> None:
        """Give up the requests that were left hanging."""
        self._closing.set()

    async def _gateway(self, request: web.Request) -> web.StreamResponse:
        if self._lookup_script:
            return await self._misbehave(request, self._lookup_script.popleft())
        return self._answer(request, {"url": self._backend.ws_url})

    async def _gateway_bot(self, request: web.Request) -> web.StreamResponse:
        if self._script:
            return await self._misbehave(request, self._script.popleft())
        body = {
            "url": self._backend.ws_url,
            "shards": self._backend.shards,
            "session_start_limit": self._backend.session_start_limit(),
        }
        return self._answer_bot(request, body)

    async def _user(self, request: web.Request) -> web.StreamResponse:
        return self._answer_bot(request, payloads.user())

    async def _application(self, request: web.Request) -> web.StreamResponse:
        return self._answer_bot(request, payloads.application())

    async def _commands(self, request: web.Request) -> web.StreamResponse:
        return self._answer_bot(request, [])

    def _answer_bot(self, request: web.Request, body: object) -> web.StreamResponse:
        if self._backend.knows(request.headers.get("Authorization")):
            return self._answer(request, body)
        return self._wrong(request, ErrorResponse.unauthorized())

    async def _misbehave(self, request: web.Request, how: ErrorResponse) -> web.StreamResponse:
        if how.status == 0:
            self._note(request, 0)
            await self._closing.wait()
            raise web.HTTPServiceUnavailable
        return self._wrong(request, how)

    def _wrong(self, request: web.Request, how: ErrorResponse) -> web.StreamResponse:
        return self._respond(request, how.status, how.body, how.headers)

    def _answer(self, request: web.Request, body: object) -> web.StreamResponse:
        return self._respond(request, 200, json.dumps(body), {})

    def _respond(self, request: web.Request, status: int, body: str, headers: Mapping[str, str]) -> web.StreamResponse:
        """Answer as Discord does, with a content type without a charset: the libraries compare all of it."""
        self._note(request, status)
        return web.Response(status=status, body=body.encode(), headers={"Content-Type": "application/json", **headers})

    def _note(self, request: web.Request, status: int) -> None:
        self._backend.record.add(RestAnswered(self._backend.clock(), request.path, status))
