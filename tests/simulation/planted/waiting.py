"""Faults that no single rule names, among those who wait: the queue's, and the requester's own. It runs nothing."""

from tests.simulation.plan import Shape
from tests.simulation.planted.fault import Planted
from tests.simulation.planted.patching import Edit
from tests.simulation.planted.rules import EVALUATE, SCHEDULER, STATE

REQUESTER = "nats_identify.client.requester:Requester"
REQUEST = "nats_identify.schedule.bucket_queue:QueuedRequest"
QUEUE = "nats_identify.schedule.bucket_queue:BucketQueue"
REQUESTS = "nats_identify.schedule.requests:RequestTable"

QUEUEING: tuple[Planted, ...] = (
    Planted(
        "a decline costs its place",
        (
            Edit(
                f"{STATE}.end_hold",
                "    self.requests.put(request)",
                "    request.asked_at_ns += 10**12\n    request.place_ns += 10**12\n    self.requests.put(request)",
            ),
        ),
    ),
    Planted(
        "a new leader drops the queue",
        (
            Edit(
                f"{STATE}.become_leader",
                "    self.mark_all_dirty()",
                "    for request in [r for queue in self.requests.queues.values() for r in queue]:\n"
                "        self.requests.forget(request)\n    self.mark_all_dirty()",
            ),
        ),
    ),
    Planted(
        "stale renewals are granted",
        (Edit(f"{REQUEST}.is_fresh", " and now_ns - self.renewed_at_ns <= timing.fresh_ns", ""),),
    ),
    Planted(
        "a renewal number that is sent twice counts from the second",
        (Edit(f"{REQUEST}.renew", "if message.renewal > self.message.renewal or not message.managed:", "if True:"),),
    ),
    Planted(
        "who declined is granted again before it renews",
        (
            Edit(
                f"{STATE}.end_hold",
                "request.is_unresponsive = is_unsent or request.message.renewal <= hold.grant.renewal",
                "request.is_unresponsive = False",
            ),
        ),
    ),
    Planted(
        "priority counts for nothing",
        (Edit(f"{QUEUE}._place", "-message.priority", "0"),),
    ),
    Planted(
        "a request that leaves its queue keeps its promise",
        (Edit(f"{QUEUE}.remove", "    self._promised.pop(request.message.request_id, None)", "    pass"),),
    ),
    Planted(
        "an ended request is still counted for its sender",
        (Edit(f"{REQUESTS}.forget", "    self._senders.remove(request.message.reply_to)", "    pass"),),
    ),
    Planted(
        "what was waited elsewhere counts for nothing",
        (Edit(f"{REQUESTS}.admit", "asked_at_ns=received_at_ns - message.waited_ns", "asked_at_ns=received_at_ns"),),
    ),
    Planted(
        "the last to come is the first",
        (Edit(f"{QUEUE}._place", "request.place_ns,", "-request.place_ns,"),),
    ),
    Planted(
        "the order of one process counts for nothing",
        (
            Edit(f"{QUEUE}.add", "if request.message.source and not", "if False and not"),
            Edit(f"{QUEUE}.remove", "if request.message.source and not", "if False and not"),
        ),
    ),
    Planted(
        "one that comes later overtakes one that was told that it is next",
        (Edit(f"{QUEUE}.place_of", "one.place_ns + 1 for one in others", "0 for one in others"),),
    ),
    Planted(
        "a renewal of an ended request is answered with silence",
        (
            Edit(
                f"{SCHEDULER}._receive_request",
                "return replies.refuse(message, replies.ended(message), is_news=is_first)",
                "return []",
            ),
        ),
    ),
    Planted(
        "a stale head blocks its bucket",
        (Edit(f"{EVALUATE}:next_grant", "if skip_at_ns is None or skip_at_ns > now_ns:", "if True:"),),
    ),
    Planted(
        "a bucket is not evaluated again when it opens",
        (
            Edit(f"{STATE}._open_at", "    self.dirty_buckets.update(self.holds.buckets_of(hold))\n", ""),
            Edit(f"{STATE}.end_hold", "    self.dirty_buckets.update(self.holds.buckets_of(hold))\n", ""),
        ),
    ),
    Planted(
        "a copied request is granted before it renews",
        (Edit(f"{STATE}.admit_copy", "now_ns - self._settings.fresh_ns - 1", "now_ns"),),
        shape=Shape.FOCUSED,
    ),
    Planted(
        "a copied request that is fresh is not looked at",
        (Edit(f"{STATE}.admit_copy", "    self.mark_dirty(request.bucket)\n", ""),),
        shape=Shape.FOCUSED,
    ),
    Planted(
        "a stale head is passed over, whether it was asked or not",
        (Edit(f"{EVALUATE}:passable_at_ns", "if request.is_unresponsive or not request.message.managed:", "if True:"),),
    ),
    Planted(
        "a nudged head is not evaluated again",
        (
            Edit(
                f"{EVALUATE}:_nudges",
                "(has_renewed and is_fresh):\n            break",
                "(has_renewed and is_fresh):\n"
                "            return Decision(nudges=tuple(nudges), nudge_width=width, widen_at_ns=widen_at_ns)",
            ),
        ),
    ),
    Planted(
        "the last turn of a day that is given back is offered to its own bucket alone",
        (Edit(f"{STATE}.refund", "    if was_closed:\n        self.mark_all_dirty()\n", ""),),
        shape=Shape.BUDGET,
    ),
    Planted(
        "those that are withdrawn are forgotten",
        (Edit(f"{REQUESTS}.end", "self._ended.setdefault(request_id, _Ended())", "_Ended()"),),
    ),
    Planted(
        "the ended are remembered without end",
        (
            Edit(
                f"{SCHEDULER}._receive_request",
                "    requests = self.state.requests\n",
                "    requests = self.state.requests\n    self.state.__dict__.setdefault('all', []).append(message)\n",
            ),
        ),
    ),
)
"""Who is next."""

REQUESTING: tuple[Planted, ...] = (
    Planted(
        "use_within counts from the grant's arrival",
        (Edit(f"{REQUESTER}._granted", "self._first_sent_ns.get(grant.renewal)", "now_ns"),),
    ),
    Planted(
        "use_within counts from the newest renewal",
        (
            Edit(
                f"{REQUESTER}._granted",
                "self._first_sent_ns.get(grant.renewal)",
                "self._first_sent_ns.get(self._renewal)",
            ),
        ),
    ),
    Planted(
        "a shard sends one renewal number again and again, and counts from the last",
        (Edit(f"{REQUESTER}._renew", "self._renewal += 1", "self._renewal = 0"),),
    ),
    Planted(
        "the answer to a copy is a decline, whatever was decided",
        (
            Edit(
                f"{REQUESTER}._granted",
                "return [SendAnswer(answer_to, decided)]",
                "return [SendAnswer(answer_to, Outcome.DECLINED)]",
            ),
        ),
    ),
    Planted(
        "a shard that has identified forgets its grant",
        (
            Edit(
                f"{REQUESTER}._decide",
                "    self._remember(grant_id, outcome)\n",
                "",
            ),
        ),
        shape=Shape.FOCUSED,
    ),
    Planted(
        "a withdrawn grant is answered as used, a used one as withdrawn",
        (
            Edit(
                f"{REQUESTER}._decide",
                "    return [SendAnswer(answer_to, outcome)]",
                "    return [SendAnswer(answer_to, Outcome.DECLINED)]",
            ),
        ),
    ),
    Planted(
        "a second grant is used after the first",
        (
            Edit(
                f"{REQUESTER}._granted",
                "if self.state is not State.ASKING or now_ns > use_by_ns:",
                "if now_ns > use_by_ns:",
            ),
        ),
    ),
    Planted(
        "a shard whose request has ended never asks anew",
        (
            Edit(
                f"{REQUESTER}._refused",
                "    if refused.code is Reason.ENDED:\n        return self._ask_anew(refused, now_ns)\n",
                "",
            ),
        ),
    ),
    Planted(
        "a shard that was refused never asks again",
        (
            Edit(
                f"{REQUESTER}._refused",
                "self._renew_at_ns, self._near_at_ns = now_ns + wait_ns, None",
                "self._renew_at_ns = self._near_at_ns = None",
            ),
        ),
    ),
)
"""What the shard does."""
