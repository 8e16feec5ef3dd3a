"""What a bot may give as `queue`, what is refused, and what is said of it."""

from functools import partial

import pytest

from nats_identify import LocalQueue, NatsQueue
from nats_identify.client.environment import queue_from_environment
from nats_identify.integrations._queue import ChosenQueue, OtherQueue, ranges
from nats_identify.queue import Grant, QueueClosedError
from nats_identify.testing import InstantQueue


class Foreign:
    """A queue that knows nothing of ours."""

    def __init__(self):
        self.told = []

    async def acquire(self, shard_id, *, priority=0, on_progress=None, replaces=None):
        return Grant(shard_id, "grant", "request", 0, 1, use_by_ns=2**62)

    def identified(self, grant):
        self.told.append("identified")

    def decline(self, grant):
        self.told.append("declined")


async def asynchronous():
    return LocalQueue()


@pytest.mark.parametrize(
    ("wanted", "description"),
    [
        (None, "a LocalQueue, which shares nothing with other processes"),
        (LocalQueue, "a LocalQueue, which shares nothing with other processes"),
        (lambda: "nats://a:4222", "a NatsQueue at a:4222 with the prefix identify"),
        ("nats://127.0.0.1:4222", "a NatsQueue at 127.0.0.1:4222 with the prefix identify"),
        (" nats://a:4222 , nats://b:4222,", "a NatsQueue at a:4222, b:4222 with the prefix identify"),
        (
            "nats://shard:p@ss/word@a:4222,tls://shard:p@ss/word@b",
            "a NatsQueue at a:4222, b:4222 with the prefix identify",
        ),
        (partial(NatsQueue.connect, "a", prefix="bots.x"), "a NatsQueue at a:4222 with the prefix bots.x"),
    ],
)
async def test_what_is_made_for_the_bot_is_closed_with_it(wanted, description):
    chosen = ChosenQueue(wanted)
    assert chosen.describe() == description
    await chosen.close()
    with pytest.raises(QueueClosedError):
        await chosen.queue.acquire(0)


@pytest.mark.parametrize("make", [LocalQueue, InstantQueue, Foreign, lambda: NatsQueue.connect("nats://u:secret@a")])
def test_a_queue_object_stays_its_owners(make):
    chosen = ChosenQueue(make())
    assert not chosen.is_ours
    assert "secret" not in chosen.describe()


async def test_any_object_with_the_three_methods_is_a_queue():
    foreign = Foreign()
    queue = ChosenQueue(foreign).queue
    assert isinstance(queue, OtherQueue)
    async with queue.turn(0) as turn:
        turn.identified()
        turn.ready()
        turn.rejected()
    grant = await queue.acquire(0)
    queue.decline(grant)
    assert foreign.told == ["identified", "declined"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (42, r"^queue=42 is no queue: give the URL of a NATS server, a queue such as LocalQueue\(\)"),
        (b"nats://u:secret@a", "^queue=a bytes is no queue"),
        (asynchronous, r"^queue=asynchronous \(a function\) returns no queue at once: call \(and await\) it yourself"),
        (partial(asynchronous), "returns no queue at once"),
        (lambda: None, "returns no queue at once"),
        (lambda: 42, "is no queue"),
        (object(), "^queue=a object is no queue"),
        (["nats://u:secret@a"], "^queue=a list is no queue"),
    ],
)
def test_what_is_no_queue_is_refused(wanted, said, recwarn):
    with pytest.raises(TypeError, match=said) as refused:
        ChosenQueue(wanted)
    assert "secret" not in str(refused.value)
    assert not recwarn.list, "no coroutine was left unawaited"


def test_a_coroutine_is_refused():
    coroutine = asynchronous()
    with pytest.raises(TypeError, match=r"^queue=asynchronous .a coroutine. is no queue"):
        ChosenQueue(coroutine)
    coroutine.close()


@pytest.mark.parametrize("wanted", ["", " ", " , "])
def test_an_empty_address_is_refused(wanted):
    with pytest.raises(ValueError, match=r"^queue is an empty address"):
        ChosenQueue(wanted)


@pytest.mark.parametrize("wanted", [None, queue_from_environment])
def test_a_part_of_the_shards_needs_a_queue_by_name(wanted, monkeypatch):
    monkeypatch.delenv("NATS_URL", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    chosen = ChosenQueue(wanted)
    for whole in ((None, None), ([], 6), (None, 6), ([0, 1, 2], 3), ([0], 1), ([0, 1], None)):
        chosen.check(*whole)
    with pytest.raises(ValueError, match=r"runs only shards 0-2, 5 of 6: .* Give all of them the same queue="):
        chosen.check([5, 0, 1, 2, 2], 6)


@pytest.mark.parametrize("make", [lambda: LocalQueue, LocalQueue, lambda: "nats://a"])
def test_who_names_a_queue_may_run_a_part(make):
    ChosenQueue(make()).check([0, 1, 2], 6)


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([2, 0, 1], "0-2"), ([0, 2, 4, 5], "0, 2, 4-5"), ([7, 9], "7, 9")]
)
def test_shards_are_named_briefly(numbers, text):
    assert ranges(numbers) == text
