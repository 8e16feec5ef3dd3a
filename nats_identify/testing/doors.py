"""Where a simulated gateway can be reached, and how each place fails to order; it reads no frame.

A gateway has two doors: its own, where bots connect, and the one that READY names as ``resume_gateway_url``.
"""

import asyncio
import socket
from enum import StrEnum
from typing import Final

from aiohttp import web


class DoorState(StrEnum):
    """What happens to a client that connects from now on; connections that are open stay open."""

    OPEN = "open"
    """It is served."""
    REFUSES = "refuses"
    """No connection comes about: the resume host's port is closed, the gateway's own cuts each one at once."""
    SILENT = "silent"
    """TCP connects, and the websocket handshake is never answered."""
    NO_HELLO = "no_hello"
    """The websocket opens, and no frame ever comes."""
    NO_ANSWER = "no_answer"
    """HELLO and the acknowledgements of heartbeats come; IDENTIFY and RESUME are never answered."""
    HANGS_UP = "hangs_up"
    """The websocket opens, HELLO comes, and the connection is closed with 4000 at once."""


GATEWAY: Final = "gateway"
RESUME_HOST: Final = "resume host"


class Door:
    """One address of a gateway.

    Args:
        name: for the record.
        state: how it begins.
    """

    def __init__(self, name: str, state: DoorState) -> None:
        self.name = name
        self.state = state
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Give up the clients that were left hanging."""
        self._closing.set()

    async def admit(self, request: web.Request) -> bool:
        """Return whether this client may open a websocket; where it is to hang, return when the gateway stops."""
        if self.state is DoorState.SILENT:
            await self._closing.wait()
            return False
        if self.state is DoorState.REFUSES:
            if request.transport is not None:
                request.transport.abort()
            return False
        return True


class ResumeHost(Door):
    """A door with a port of its own, which is closed while the door refuses.

    Args:
        state: how it begins.
        address: where to listen; the port is a free one.
    """

    def __init__(self, state: DoorState, address: str) -> None:
        super().__init__(RESUME_HOST, state)
        self._address = address
        self._reserved: socket.socket | None = None
        self._site: web.TCPSite | None = None

    @property
    def ws_url(self) -> str:
        """Where it listens, or would."""
        if self._reserved is None:
            raise RuntimeError("the resume host has no url before `async with` has started the gateway")
        return f"ws://{self._address}:{self._reserved.getsockname()[1]}"

    async def start(self, runner: web.AppRunner) -> None:
        """Take a port, and listen there unless the door refuses."""
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((self._address, 0))  # without `listen`: the port is ours, and refuses connections
        await self.become(self.state, runner)

    async def become(self, state: DoorState, runner: web.AppRunner) -> None:
        """Treat the clients that connect from now on like this."""
        self.state = state
        if state is DoorState.REFUSES and self._site is not None:
            site, self._site = self._site, None
            await site.stop()
        elif state is not DoorState.REFUSES and self._site is None:
            port = int(self.ws_url.rpartition(":")[2])
            self._site = web.TCPSite(runner, self._address, port, reuse_address=True)
            await self._site.start()

    def close(self) -> None:
        """Give up the clients that were left hanging, and the port."""
        super().close()
        if self._reserved is not None:
            self._reserved.close()


class Doors:
    """Both doors of a gateway.

    Args:
        resume_host: how the resume host begins; None where READY names the gateway itself.
        address: where to listen.
    """

    def __init__(self, resume_host: DoorState | None, address: str) -> None:
        self.gateway = Door(GATEWAY, DoorState.OPEN)
        self.resume_host = None if resume_host is None else ResumeHost(DoorState(resume_host), address)
        self._runner: web.AppRunner | None = None

    async def start(self, runner: web.AppRunner) -> None:
        """Open the resume host; the gateway's own door is the runner's first site."""
        self._runner = runner
        if self.resume_host is not None:
            await self.resume_host.start(runner)

    async def set_resume_host(self, state: str) -> None:
        """Treat clients that connect to the resume host from now on like this.

        Raises:
            ValueError: there is no such state.
            LookupError: READY names no resume host of its own.
        """
        if self.resume_host is None or self._runner is None:
            raise LookupError("READY names the gateway itself for RESUME; make the gateway with `resume_host=`")
        await self.resume_host.become(DoorState(state), self._runner)

    def close(self) -> None:
        """Give up the clients that were left hanging, and the port."""
        self.gateway.close()
        if self.resume_host is not None:
            self.resume_host.close()

    def of(self, request: web.Request) -> Door:
        """Return the door that this client came through."""
        if self.resume_host is None or request.transport is None:
            return self.gateway
        came_to = f":{request.transport.get_extra_info('sockname')[1]}"
        return self.resume_host if self.resume_host.ws_url.endswith(came_to) else self.gateway
