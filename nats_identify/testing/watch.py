"""Shows a gateway's record over HTTP, as JSON, to people and demos; it changes nothing."""

import asyncio
import json
from typing import Final

from aiohttp import web

from nats_identify.testing.events import GatewayEvent
from nats_identify.testing.record import Record

BEHIND_MAX: Final = 10_000
"""A reader of ``/events`` that falls this many events behind is disconnected; it may reconnect."""


class Watch:
    """``GET /report``: the sums. ``GET /events``: the kept events, then every new one, a JSON line each."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._readers: set[asyncio.Queue[GatewayEvent | None]] = set()
        self._stop_listening = record.listen(self._pass_on)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to serve."""
        return [web.get("/report", self._report), web.get("/events", self._events)]

    def close(self) -> None:
        """End every stream after the events it already has."""
        self._stop_listening()
        for reader in tuple(self._readers):
            self._cut_off(reader)

    async def _report(self, _request: web.Request) -> web.Response:
        return web.json_response(self._record.report().as_json())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        reader: asyncio.Queue[GatewayEvent | None] = asyncio.Queue(BEHIND_MAX)
        kept = tuple(self._record.events)  # from here to the next line nothing can happen in between
        self._readers.add(reader)
        try:
            for event in kept:
                await response.write(_line(event))
            while (new := await reader.get()) is not None:
                await response.write(_line(new))
        finally:
            self._readers.discard(reader)
        return response

    def _pass_on(self, event: GatewayEvent) -> None:
        for reader in tuple(self._readers):
            if reader.full():
                self._cut_off(reader)
            else:
                reader.put_nowait(event)

    def _cut_off(self, reader: asyncio.Queue[GatewayEvent | None]) -> None:
        self._readers.discard(reader)
        if reader.full():
            reader.get_nowait()
        reader.put_nowait(None)


def _line(event: GatewayEvent) -> bytes:
    return json.dumps(event.as_json()).encode() + b"\n"
