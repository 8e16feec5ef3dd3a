"""Memory and CPU of each container, read from its control group once a second. It judges nothing.

Memory is the working set, what the kernel cannot take back: as Kubernetes counts it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.lab.cluster import main_processes, pods

EVERY_S: Final = 1.0
START_S: Final = 10.0
"""So long a container starts: Python loads its modules. Its CPU is told apart from the load's."""

SHORTEST_S: Final = 15.0
"""A container that was watched for less says little."""

_GROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(slots=True)
class Usage:
    """What one container used.

    Attributes:
        pod: whose it is.
        peak_mib: the most that its working set was.
    """

    pod: str
    peak_mib: float = 0.0
    samples: list[tuple[float, float]] = field(default_factory=list)

    def cpu_m(self) -> float | None:
        """Thousandths of a core, on the average, after its start; None where that was too short."""
        first_s = self.samples[0][0] + (START_S if self.is_new else 0)
        later = [sample for sample in self.samples if sample[0] >= first_s]
        if len(later) < 2 or later[-1][0] - later[0][0] < SHORTEST_S:
            return None
        return 1000 * (later[-1][1] - later[0][1]) / (later[-1][0] - later[0][0])

    is_new: bool = False


class Meter:
    """All containers of the pods of a selector."""

    def __init__(self, selector: str) -> None:
        self.by_container: dict[str, Usage] = {}
        self._selector = selector
        self._is_first = True

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            for pod in await pods(self._selector):
                for container, process in (await asyncio.to_thread(main_processes, pod["metadata"]["uid"])).items():
                    self._read(pod["metadata"]["name"], container, process)
            self._is_first = False
            await asyncio.sleep(EVERY_S)  # between two readings

    def _read(self, pod: str, container: str, process: int) -> None:
        try:
            groups = dict(line.split(":")[1:] for line in Path(f"/proc/{process}/cgroup").read_text().splitlines())
            memory = _GROUPS / "memory" / groups["memory"].lstrip("/")
            (cpu_name,) = [name for name in groups if "cpuacct" in name.split(",")]
            used = int((memory / "memory.usage_in_bytes").read_text())
            stat = dict(line.split() for line in (memory / "memory.stat").read_text().splitlines())
            cpu_s = int((_GROUPS / cpu_name / groups[cpu_name].lstrip("/") / "cpuacct.usage").read_text()) / 1e9
        except (OSError, KeyError):
            return  # it has just ended
        usage = self.by_container.setdefault(container, Usage(pod, is_new=not self._is_first))
        usage.peak_mib = max(usage.peak_mib, (used - int(stat["total_inactive_file"])) / 2**20)
        usage.samples.append((time.monotonic(), cpu_s))

    def peak_mib(self) -> float:
        return max(usage.peak_mib for usage in self.by_container.values())

    def cpu_m(self) -> float:
        return max(cpu for usage in self.by_container.values() if (cpu := usage.cpu_m()) is not None)


@asynccontextmanager
async def measured(*selectors: str) -> AsyncIterator[list[Meter]]:
    """Measure during the block."""
    meters = [Meter(selector) for selector in selectors]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(meter.run()) for meter in meters]
        yield meters
        for task in tasks:
            task.cancel()
