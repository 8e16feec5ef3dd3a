"""Three coordinator processes and what can befall them: ended, killed, frozen, started again. They judge nothing."""

import asyncio
import signal
from contextlib import asynccontextmanager
from pathlib import Path

from tests.processes import QUICK, CoordinatorProcess, until

LEASE_S = 3.0
WINDOW_S = 0.5
MARGIN_S = 0.05

SETTINGS = {
    **QUICK,
    "IDENTIFY_LEASE": str(LEASE_S),
    "IDENTIFY_WINDOW": str(WINDOW_S),
    "IDENTIFY_MARGIN": str(MARGIN_S),
    "IDENTIFY_USE_WITHIN": "2",
    "IDENTIFY_SESSION_TOTAL": "100000",
    "IDENTIFY_CRASH_LOOP_GRANTS": "0",
    "IDENTIFY_LOG_LEVEL": "info",
}


class Replica(CoordinatorProcess):
    """One coordinator that can be frozen, and knows the random name of its process."""

    @property
    def instance(self):
        serving = self.logged("serving")
        return serving[-1]["instance"] if serving else None

    @property
    def roles(self):
        return [line["role"] for line in self.logged("role")]

    @property
    def is_running(self):
        return self.process.returncode is None

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    async def until_ready(self):
        await until(self.is_ready, f"{self.environment['IDENTIFY_REPLICA_NAME']} is ready")

    async def start_again(self):
        await self.start()
        await self.until_ready()


class Replicas:
    """All coordinators of one bot."""

    def __init__(self, members: list[Replica]):
        self.members = members

    def __iter__(self):
        return iter(self.members)

    def by_instance(self, instance: str):
        """Return the process that committed a grant, or its grants' names."""
        return next(member for member in self.members if member.instance == instance)

    async def leader(self):
        """Return the one that leads, as soon as one does."""

        async def look():
            for member in self.members:
                if member.is_running and await member.is_leader():
                    return member
            return None

        return await until(look, "somebody leads")

    async def until_all_ready(self):
        await asyncio.gather(*(member.until_ready() for member in self.members))


@asynccontextmanager
async def running_replicas(folder: Path, url: str | list[str], *, count: int = 3, **settings: str):
    """Coordinators that are ready, on one address or each on its own; whatever befalls them, in the end they go."""
    urls = [url] * count if isinstance(url, str) else url
    named = [{"NATS_URL": each, "IDENTIFY_REPLICA_NAME": f"pod-{number}"} for number, each in enumerate(urls)]
    members = [
        Replica(folder / f"replica-{number}.log", {**SETTINGS, **name, **settings}) for number, name in enumerate(named)
    ]
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240  # one call, before anything runs
    started = []
    try:
        for member in members:
            await member.start()
            started.append(member)
        replicas = Replicas(members)
        await replicas.until_all_ready()
        yield replicas
    finally:
        for member in started:
            if member.is_running:
                member.process.kill()
                await member.process.wait()
