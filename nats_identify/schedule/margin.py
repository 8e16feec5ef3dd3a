"""The margin, tuned to the network between the shards and Discord by the outcomes of IDENTIFYs. It holds no bucket.

An Invalid Session widens it at once; each accepted IDENTIFY that came as early as the margin allows narrows it by a
little, so that it fits the network: a wide margin costs little, a rejected session start costs a place. Where READY
comes within the margin, the bucket opens by READY, no margin is waited for, and none is learnt from.
"""

from nats_identify.schedule.model import MS, SECOND

WIDEST_MORE_NS = 1 * SECOND
"""The margin grows by no more: the libraries that add the most to Discord's 5 s add a second."""

WIDER_MIN_NS = 100 * MS
"""It grows by as much as it is, and by no less than what took YAGPDB from 5.0 to 5.1 s."""

NARROWINGS = 2_000
"""Each narrowing takes 1/2,000 of what is above the floor: a day of 1,000 session starts takes not quite half."""


def clamp(margin_ns: int, setting_ns: int) -> int:
    """The margin nearest to this one that a setting allows: from half of it to a second more."""
    return min(max(margin_ns, setting_ns // 2), setting_ns + WIDEST_MORE_NS)


def widened(margin_ns: int, setting_ns: int) -> int:
    """The margin after Discord has rejected an IDENTIFY."""
    return clamp(margin_ns + max(margin_ns, WIDER_MIN_NS), setting_ns)


def narrowed(margin_ns: int, setting_ns: int) -> int:
    """The margin after Discord has accepted an IDENTIFY that came as early as the margin allows."""
    return clamp(margin_ns - (margin_ns - setting_ns // 2) // NARROWINGS, setting_ns)
