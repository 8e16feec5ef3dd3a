"""Answers info, status and refresh on NATS, as a micro service that the usual tools find. It decides nothing."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from typing import Final

from nats import errors, micro
from nats.aio.msg import Msg
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, ServiceConfig
from nats.micro.service import Service as MicroService

from coordinator.core.replica import Replica
from coordinator.edge import status
from coordinator.edge.connections import Connection
from coordinator.edge.limits import DiscordLimits, StaticLimits
from coordinator.edge.publisher import Publisher
from nats_identify.clock import Clock
from nats_identify.wire import Info, Status, Subjects

VERSION: Final = version("nats-identify")
REFRESHES_MAX: Final = 100
"""Operators that may wait for one fetch, at most."""

_NUMBERS: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


class Service:
    """Answers the requests of operators and clients for info, status and refresh.

    Args:
        traffic: carries the questions.
        subjects: where they arrive.
        replica: its state is shown.
        publisher: sends what the leader alone answers.
        limits: Discord's, or those of the settings.
        is_leading: whether this replica leads.
        clock: the replica's time.

    Attributes:
        micro: the service, once it is open; other parts add endpoints to it.
    """

    micro: MicroService

    def __init__(
        self,
        traffic: Connection,
        subjects: Subjects,
        replica: Replica,
        *,
        publisher: Publisher,
        limits: DiscordLimits | StaticLimits,
        is_leading: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._traffic = traffic
        self._subjects = subjects
        self._replica = replica
        self._publisher = publisher
        self._limits = limits
        self._is_leading = is_leading
        self._clock = clock
        self._refreshing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Subscribe; one replica answers info and status, the leader answers refresh."""
        config = ServiceConfig(
            name="identify-coordinator",
            version=semantic(VERSION),
            description="One IDENTIFY queue for all shards of a Discord bot",
            metadata={"prefix": self._subjects.prefix, "replica": self._replica.settings.name},
        )
        service = await micro.add_service(self._traffic, config)
        info = EndpointConfig("info", self._answer_info, subject=self._subjects.info)
        status = EndpointConfig("status", self._answer_status, subject=self._subjects.status)
        await service.add_endpoint(info)
        await service.add_endpoint(status)
        self.micro = service
        await self._traffic.subscribe(self._subjects.refresh, cb=self._asked_to_refresh)

    def info(self) -> Info:
        """Return the limits as they are known here."""
        return status.info(self._replica, self._clock(), limits=self._limits, version=VERSION)

    def status(self) -> Status:
        """Return the whole picture as it is known here."""
        return status.status(self._replica, self._clock(), limits=self._limits, version=VERSION)

    async def _answer_info(self, request: Request) -> None:
        with suppress(ValueError, errors.Error):  # no reply subject, or no connection
            await request.respond(self.info().model_dump_json().encode())

    async def _answer_status(self, request: Request) -> None:
        with suppress(ValueError, errors.Error):  # as above
            await request.respond(self.status().model_dump_json().encode())

    async def _asked_to_refresh(self, message: Msg) -> None:
        if message.reply and self._is_leading() and len(self._refreshing) < REFRESHES_MAX:
            task = asyncio.create_task(self._refresh(message.reply))
            self._refreshing.add(task)
            task.add_done_callback(self._refreshing.discard)

    async def _refresh(self, reply_to: str) -> None:
        trouble = await self._limits.refresh()
        headers = None
        if trouble is not None:  # what is known is sent all the same
            headers = {"Nats-Service-Error-Code": "503", "Nats-Service-Error": trouble}
        await self._publisher.send(reply_to, self.info().model_dump_json().encode(), headers=headers)


def semantic(python_version: str) -> str:
    """Return a version as NATS wants it: of 1.2.dev3 the numbers, 1.2.0."""
    found = _NUMBERS.match(python_version)
    return ".".join(number or "0" for number in found.groups()) if found else "0.0.0"
