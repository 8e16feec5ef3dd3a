"""The KV bucket of the ledger: makes it where there is none, and judges the settings of one that is there.

It reads and writes no ledger.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from nats import errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from coordinator.core.ledger import Ledger
from coordinator.core.replica import GRANT_ID_SECRET_BYTES
from coordinator.edge.connections import TROUBLE, Connection
from coordinator.edge.cures import NAME_IN_USE, NOT_A_CLUSTER
from coordinator.edge.ledger_json import LedgerWriter
from coordinator.edge.log import Log
from coordinator.settings import Settings, SettingsError
from nats_identify.operator_wire import WHO_MAX, WHY_MAX
from nats_identify.schedule.budget import StaticDay
from nats_identify.schedule.crash_loop import TOLD_MAX, ShardHistory
from nats_identify.schedule.grants import Grant, HoldRecord
from nats_identify.schedule.model import DAY, Outcome
from nats_identify.schedule.pause import Paused
from nats_identify.schedule.plain import REPLIED_FOR_NS, REPLIED_MAX

CLUSTER_REPLICAS: Final = 3

HEADERS_BYTES: Final = 256
"""A limit of the stream counts an entry's headers and what it is stored with: some 200 bytes."""

LOOK_EVERY_S: Final = 1.0

JUDGE_EVERY: Final = 10
"""One look in this many asks the server although nothing has changed here: an operator may have edited the bucket."""

LOOKS_IN_VAIN_MAX: Final = 5
"""This many unanswered looks, while the ledger can be read, mean that looking is not allowed."""

WIDEST: Final = "\U00010000"
"""A character with the longest JSON escape."""

_INSTANCE: Final = "f" * 12


@dataclass(frozen=True, slots=True)
class Need:
    """How many bytes an entry has: ``least`` with no grant and without its headers, ``largest`` with all of them."""

    least: int
    largest: int


def need_of(settings: Settings, max_concurrency: int) -> Need:
    """Return what the ledger of these settings can need: a grant in each bucket, and the most of all else."""
    grant_id = f"{10**9}-{'f' * 2 * GRANT_ID_SECRET_BYTES}"
    grants = tuple(
        HoldRecord(
            Grant(grant_id, "x" * 64, 10**6, bucket, max_concurrency, 10**6, DAY),
            hold_ns=DAY,
            outcome=Outcome.IDENTIFIED,
        )
        for bucket in range(max_concurrency)
    )
    ages_ns = (DAY,) * (settings.identify_crash_loop_grants + 2)
    loops = (ShardHistory(10**6, 10, ages_ns),) * (TOLD_MAX if settings.identify_crash_loop_grants else 0)
    least = Ledger(settings.identify_prefix, settings.identify_replica_name, _INSTANCE, 1, 1, settings.lease_ns)
    largest = replace(
        least,
        term=10**9,
        sequence=10**9,
        max_concurrency=max_concurrency,
        total=10**6,
        remaining=10**6,
        reset_in_ns=DAY,
        grants=grants,
        crash_loops=loops,
        margin_ns=DAY,
        full_hold_ns=DAY,
        static_day=StaticDay(DAY, 10**6, DAY),
        replied=tuple((f"{number:064}", REPLIED_FOR_NS) for number in range(REPLIED_MAX)),
        paused=Paused(-10, 365 * DAY, by=WIDEST * WHO_MAX, why=WIDEST * WHY_MAX),
    )
    write = LedgerWriter().write
    return Need(len(write(least)), HEADERS_BYTES + len(write(largest)))


def problems_of(bucket: str, config: api.StreamConfig, need: Need) -> tuple[list[str], list[str]]:
    """Judge the settings of a bucket: what can never work or is unsafe, and what may fail one day.

    Returns:
        Two lists of lines, each with what to do.
    """
    stream, history = f"KV_{bucket}", max(1, config.max_msgs_per_subject or 1)
    edit = f"nats stream edit {stream}"
    size, room = config.max_msg_size or 0, (config.max_bytes or 0) // history
    deletes = config.discard == api.DiscardPolicy.OLD and 0 < room < need.largest
    never = [
        (bool(config.max_age), f"its TTL of {config.max_age or 0:g} s deletes the ledger; {edit} --max-age=0"),
        (bool(config.sealed), "its stream is sealed; delete it, and a coordinator makes it"),
        (config.mirror is not None, "it is a mirror, which takes no writes; name the bucket that it mirrors"),
        (0 < size < need.least, f"no ledger fits into a value of {size} bytes; {edit} --max-msg-size=-1"),
        (0 < room < need.least, f"no ledger fits into its {config.max_bytes} bytes; {edit} --max-bytes=-1"),
        (deletes, f"with --discard=old its limit of bytes deletes the ledger; {edit} --discard=new --max-bytes=-1"),
    ]
    largest = f"the largest ledger of these settings has {need.largest} bytes"
    perhaps = [
        (
            config.storage == api.StorageType.MEMORY,
            "kept in memory, it is gone when NATS restarts, and all is held then; make it anew with --storage=file",
        ),
        (need.least <= size < need.largest, f"values of {size} bytes at most; {largest}; {edit} --max-msg-size=-1"),
        (
            need.least <= room < need.largest and not deletes,
            f"{config.max_bytes} bytes for {history} entries; {largest}; {edit} --max-bytes=-1",
        ),
        ((config.max_msgs_per_subject or 0) < 1, f"it keeps every commit; {edit} --max-msgs-per-subject=1"),
    ]
    return ([said for is_so, said in never if is_so], [said for is_so, said in perhaps if is_so])


class KvBucket:
    """The bucket of one prefix, as these settings want it.

    Args:
        connection: to the server that keeps it.
        name: the bucket's name.
        settings: copies and bytes to make it with, and how large its ledger can be.
        log: for what was created, and for settings that may fail.

    Attributes:
        wrong: why it can keep no ledger as it was last seen, with what to do, else None.
    """

    def __init__(self, connection: Connection, name: str, settings: Settings, log: Log) -> None:
        self.name = name
        self.stream = f"KV_{name}"
        self._connection = connection
        self._jetstream = connection.jetstream(timeout=1.0)
        self._settings = settings
        self._log = log
        self.wrong: str | None = None
        self._has_made = False  # then what is wrong has come in mid-life
        self._said: set[str] = set()

    async def make(self) -> None:
        """Make it; where another coordinator was faster, its settings stand.

        Raises:
            APIError: the server refuses to create it; the error has its reason.
            nats.errors.Error: no answer in time.
        """
        asked = self._settings.identify_kv_replicas
        replicas = asked or (CLUSTER_REPLICAS if self._connection.is_clustered else 1)
        try:
            await self._create(replicas)
        except APIError as error:
            if error.err_code == NAME_IN_USE:
                return
            if error.err_code != NOT_A_CLUSTER or asked is not None:
                raise
            replicas = 1  # a single server names a cluster too where it has leaf nodes
            await self._create(replicas)
            self._log.warning(
                "one copy of the ledger: JetStream runs on one server; IDENTIFY_KV_REPLICAS says how many"
            )
        self._has_made = True
        self._log.info("KV bucket made", bucket=self.name, replicas=replicas)

    async def _create(self, replicas: int) -> None:
        config = api.KeyValueConfig(
            bucket=self.name,
            description="Who leads the IDENTIFY queue, what it granted, and what is left of the day",
            history=1,
            storage=api.StorageType.FILE,
            replicas=replicas,
            max_bytes=self._settings.identify_kv_max_bytes,
        )
        await self._jetstream.create_key_value(config)

    async def watch(self, max_concurrency: Callable[[], int | None], answers: Callable[[], bool]) -> None:
        """Judge its settings once it exists, when max_concurrency changes, and every ten seconds.

        It runs until it is cancelled, or until `LOOKS_IN_VAIN_MAX` looks show that this user may not look: then it logs
        which permission is missing, and returns.

        Args:
            max_concurrency: today's number of buckets, None while it is unknown.
            answers: whether the ledger could be read when that was last tried.

        Raises:
            SettingsError: at the start, they can never work or are unsafe.
        """
        judged, vain, looks = 0, 0, 0
        while vain < LOOKS_IN_VAIN_MAX:
            wanted, looks = max_concurrency() or 1, looks + 1
            if wanted != judged or looks >= JUDGE_EVERY:
                try:
                    config = (await self._jetstream.stream_info(self.stream)).config
                    self._judge(config, wanted, is_first=not judged)
                    judged, vain, looks = wanted, 0, 0
                except NotFoundError:
                    pass  # it is about to be made
                except (errors.Error, OSError):
                    vain += answers() and not judged
                except TROUBLE as error:  # what answers is not JetStream
                    self._connection.warn_throttled("bucket", f"the KV bucket's settings cannot be read: {error!r}")
            await asyncio.sleep(LOOK_EVERY_S)
        right = f"$JS.API.STREAM.INFO.{self.stream}"
        self._log.warning("the settings of the KV bucket cannot be checked; allow the subject", subject=right)

    def _judge(self, config: api.StreamConfig, max_concurrency: int, *, is_first: bool) -> None:
        need = need_of(self._settings, max_concurrency)
        never, perhaps = problems_of(self.name, config, need)
        if never and is_first and not self._has_made:
            raise SettingsError(*(f"KV bucket {self.name}: {said}" for said in never))
        if need.largest > self._connection.max_payload:
            perhaps.append(f"max_payload of the NATS server is below the {need.largest} bytes of the largest ledger")
        for said in never:
            if said not in self._said:
                self._log.error("the settings of the KV bucket are wrong", bucket=self.name, error=said)
        for said in perhaps:
            if said not in self._said:
                self._log.warning("the settings of the KV bucket may fail", bucket=self.name, error=said)
        self._said = {*never, *perhaps}
        self.wrong = f"KV bucket {self.name}: {never[0]}" if never else None
