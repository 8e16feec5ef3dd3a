"""Three nats-servers in one JetStream cluster on loopback, each of which can be killed, frozen and started again.

It judges nothing. Every server keeps its store and its ports, as a pod with a volume would.
"""

import asyncio
import json
import os
import signal
import socket
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import nats
from nats import errors
from nats.aio.client import Client
from nats.js.errors import APIError, NotFoundError

from nats_identify.processes.nats_server import HOST, EmbeddedNats
from tests.processes import until

SERVERS: Final = 3
STREAM: Final = "KV_identify"
HEALED_WITHIN_S: Final = 60.0


class NatsCluster:
    """Three servers.

    Attributes:
        servers: by their names in the cluster.
    """

    def __init__(self, folder: Path):
        ports = free_ports(SERVERS)
        routes = json.dumps([f"nats://{HOST}:{port}" for port in ports])
        self.servers = {
            f"n{number}": EmbeddedNats(
                folder / f"n{number}",
                extra=f'server_name: n{number}\ncluster {{ name: chaos, listen: "{HOST}:{port}", routes: {routes} }}',
            )
            for number, port in enumerate(ports)
        }
        self.client: Client | None = None

    @property
    def urls(self):
        return [server.url for server in self.servers.values()]

    @property
    def url(self):
        """All of them, as NATS_URL takes them."""
        return ",".join(self.urls)

    def urls_without(self, name):
        return [server.url for other, server in self.servers.items() if other != name]

    async def stream(self):
        """Return what the cluster says of the ledger's stream, None while it says nothing."""
        try:
            assert self.client is not None
            return await self.client.jetstream(timeout=0.5).stream_info(STREAM)
        except (errors.Error, APIError, OSError):
            return None

    async def has_a_leader(self):
        """Return the name of the server that leads the ledger's stream, None while none does."""
        info = await self.stream()
        return info and info.cluster and info.cluster.leader

    async def until_whole(self):
        """Return the name of the stream's leader, once both others are at its heels."""

        async def look():
            info = await self.stream()
            cluster = info and info.cluster
            others = (cluster and cluster.replicas) or []
            is_whole = len(others) == SERVERS - 1 and all(peer.current and not peer.offline for peer in others)
            return is_whole and cluster.leader

        return await until(look, "the stream has all its replicas", within_s=HEALED_WITHIN_S)

    def freeze(self):
        """Nobody is answered any more, and no connection ends: the worst that a network can do."""
        self._signal(signal.SIGSTOP)

    def thaw(self):
        self._signal(signal.SIGCONT)

    def _signal(self, number):
        for server in self.servers.values():
            if server.pid is not None:
                os.kill(server.pid, number)


@asynccontextmanager
async def running_cluster(folder: Path):
    """A cluster whose JetStream works."""
    cluster = NatsCluster(folder)
    try:
        await asyncio.gather(*(server.start() for server in cluster.servers.values()))
        cluster.client = await nats.connect(
            cluster.urls, max_reconnect_attempts=-1, reconnect_time_wait=0.1, ping_interval=1, error_cb=ignore
        )
        await until(partial(jetstream_answers, cluster.client), "JetStream has a leader", within_s=HEALED_WITHIN_S)
        yield cluster
    finally:
        cluster.thaw()
        if cluster.client is not None:
            await cluster.client.close()
        await asyncio.gather(*(server.kill() for server in cluster.servers.values()))


async def jetstream_answers(client):
    try:
        await client.jetstream(timeout=0.5).stream_info("no_such_stream")
    except NotFoundError:
        return True
    except (errors.Error, APIError):
        return False


async def ignore(_error):
    """Servers are killed here on purpose; the client mends itself."""


def free_ports(count):
    """Ports that nobody has now: a cluster's members must know each other's before the first one starts."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
