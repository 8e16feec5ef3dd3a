"""Gives the waiting queue to a replica that starts, and takes it where we start. It orders nothing.

The order is kept to the nanosecond: each asking carries how long ago its place is, all of one page counted from the
same instant here. Later pages count from the first one's instant plus the time between the two where they were written.

A rolling update replaces every coordinator within seconds, while a shard far back in the queue renews once a
minute: without this, nobody would know of it for so long. What is taken is as fresh as it was there, or a little less:
its age counts from before we asked. Were it stale, one that renews here sooner would be granted before it.
"""

from dataclasses import replace
from itertools import islice
from typing import Final

from nats import errors
from nats.aio.msg import Msg
from pydantic import ValidationError

from coordinator.edge.connections import Connection
from coordinator.edge.inbox import Inbox
from coordinator.edge.log import Log
from coordinator.edge.records import CopiedAsking, QueueCopy, QueuePage
from nats_identify.clock import Clock
from nats_identify.schedule.book import Book
from nats_identify.schedule.line import Asking
from nats_identify.schedule.model import MS, Ask
from nats_identify.wire import Subjects

ANSWER_WITHIN_S: Final = 1.0
PAGE_MOST: Final = 500
"""So many askings in a message: some 150 KB, and with the longest names 0.75 MB of NATS's 1 MB."""


class Handover:
    """The waiting queue, page by page.

    Args:
        traffic: carries the pages.
        subjects: where they are asked for.
        instance: whom to ask for the pages after the first.
        book: the queue.
        inbox: told what was taken.
        clock: the replica's time.
        log: told how much was taken.
    """

    def __init__(
        self,
        traffic: Connection,
        subjects: Subjects,
        instance: str,
        *,
        book: Book,
        inbox: Inbox,
        clock: Clock,
        log: Log,
    ) -> None:
        self._traffic = traffic
        self._subject = f"{subjects.prefix}.queue"
        self._instance = instance
        self._book = book
        self._inbox = inbox
        self._clock = clock
        self._log = log

    async def take(self) -> None:
        """Take the queue from whoever has it; without it where nobody answers.

        Nobody answers a replica that is alone, and NATS says so at once.
        """
        subject, after, taken = self._subject, 0, 0
        first_asked_ns, first_at_ns = 0, 0
        while True:
            asked_at_ns = self._clock()
            try:
                page = QueuePage(after=after).model_dump_json().encode()
                answer = await self._traffic.request(subject, page, timeout=ANSWER_WITHIN_S)
                copy = QueueCopy.model_validate_json(answer.data)
            except (errors.Error, TimeoutError, ValidationError):
                if not taken:
                    self._log.debug("there is no queue to take from another replica")
                    return
                break
            if not taken:
                first_asked_ns, first_at_ns = asked_at_ns, copy.at_ns
            page_at_ns = first_asked_ns + copy.at_ns - first_at_ns
            for asking in copy.askings:
                await self._inbox.tell_and_wait(_copy(asking, asked_at_ns, page_at_ns))
            taken += len(copy.askings)
            if copy.next is None:
                break
            subject, after = f"{self._subject}.{copy.instance}", copy.next
        self._log.info("queue taken from another replica", askings=taken)

    async def open(self) -> None:
        """Give the queue to whoever starts from now on."""
        await self._traffic.subscribe(self._subject, cb=self._give)
        await self._traffic.subscribe(f"{self._subject}.{self._instance}", cb=self._give)

    async def _give(self, message: Msg) -> None:
        if not message.reply:
            return
        try:
            after = QueuePage.model_validate_json(message.data or b"{}").after
        except ValidationError:
            return
        await self._traffic.publish(message.reply, self._page(after).model_dump_json(exclude_none=True).encode())

    def _page(self, after: int) -> QueueCopy:
        now_ns = self._clock()
        later = (asking for asking in self._book.room.askings.values() if asking.order > after)  # in order of admission
        page = list(islice(later, PAGE_MOST))
        rest = page[-1].order if len(page) == PAGE_MOST else None
        askings = [_copied(asking, now_ns) for asking in page]
        return QueueCopy(instance=self._instance, askings=askings, next=rest, at_ns=now_ns)


def _copy(asking: CopiedAsking, asked_at_ns: int, page_at_ns: int) -> Ask:
    """What the replica is told of it; ``page_at_ns`` is its page's instant, by our clock."""
    ask = asking.ask(bucket=asking.bucket, reply_to=asking.reply_to, request_id="")
    heard_at_ns = None if asking.heard_ms is None else asked_at_ns - asking.heard_ms * MS
    place_at_ns = None if asking.placed_ns is None else page_at_ns - asking.placed_ns
    return replace(ask, is_copy=True, heard_at_ns=heard_at_ns, place_at_ns=place_at_ns)


def _copied(asking: Asking, now_ns: int) -> CopiedAsking:
    ask = asking.ask
    timeout_ns = None if asking.timeout_at_ns is None else max(MS, asking.timeout_at_ns - now_ns)
    heard_ms = None if asking.silent else (now_ns - asking.heard_at_ns) // MS + 1
    return CopiedAsking(
        shard_id=ask.shard_id,
        request_id=ask.request_id,
        renewal=ask.renewal,
        waited_ms=max(0, now_ns - asking.asked_at_ns) // MS,
        max_concurrency=ask.max_concurrency,
        priority=ask.priority,
        managed=ask.managed,
        timeout_ms=None if timeout_ns is None else timeout_ns // MS,
        client=ask.client or None,
        bucket=asking.bucket,
        reply_to=ask.reply_to,
        heard_ms=heard_ms,
        placed_ns=now_ns - asking.place_ns,
        source=ask.source or None,
        asked_us=ask.asked_us if ask.source else None,
    )
