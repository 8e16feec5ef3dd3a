"""Which shards a pod runs, and what it refuses to guess."""

import pytest

from nats_identify.client.environment import WrongEnvironmentError
from nats_identify.client.shards import Shards, shard_options, shards_of_pod

POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}


def of_pod(environment: dict[str, str]) -> Shards:
    """Return the shards of a pod that has some."""
    shards = shards_of_pod(environment)
    assert shards is not None
    return shards


@pytest.mark.parametrize(
    ("said", "hostname"),
    [
        ({"POD_INDEX": "3"}, "bot-3"),
        ({"POD_INDEX": "3"}, "node-7"),
        ({"POD_INDEX": "3", "POD_NAME": "bot-3"}, "node-7"),
        ({"POD_INDEX": "", "POD_NAME": "bot-3"}, "node-7"),
        ({"POD_NAME": "bot-2-3"}, "node-7"),
        ({"POD_NAME": "bot-3", "STATEFULSET_NAME": "bot"}, "node-7"),
        ({"STATEFULSET_NAME": "bot"}, "bot-3"),
        ({"POD_INDEX": "", "STATEFULSET_NAME": "bot"}, "bot-3.bot.default.svc"),
        ({"POD_INDEX": "", "STATEFULSET_NAME": "bot-2"}, "bot-2-3"),
        ({"POD_INDEX": "4", "POD_INDEX_START": "1"}, "bot-4"),
        ({"POD_NAME": "bot-103", "POD_INDEX_START": "100"}, "node-7"),
        ({"POD_INDEX": "3", "POD_INDEX_START": ""}, "bot-3"),
    ],
)
def test_the_pods_number_comes_from_its_label_or_else_from_its_name(said, hostname):
    shards = shards_of_pod({**POD, "SHARD_COUNT": "16", **said}, hostname=hostname)
    assert shards == Shards((3,), 16)


@pytest.mark.parametrize("start", [0, 1, 5])
def test_every_shard_is_run_once_wherever_the_numbers_begin(start):
    said = {**POD, "SHARD_COUNT": "8", "SHARDS_PER_POD": "2", "POD_INDEX_START": f"{start}"}
    found = [of_pod({**said, "POD_NAME": f"bot-{pod}"}) for pod in range(start, start + 4)]
    assert [shard_id for shards in found for shard_id in shards.ids] == list(range(8))


def test_numbers_that_begin_elsewhere_unsaid_are_told_by_the_last_pod():
    said = {**POD, "SHARD_COUNT": "4"}
    with pytest.raises(WrongEnvironmentError, match="set POD_INDEX_START to it"):
        [shards_of_pod({**said, "POD_INDEX": f"{pod}"}) for pod in (1, 2, 3, 4)]


def test_nodes_that_are_numbered_start_no_shard_twice():
    """With hostNetwork two pods of one node have its name."""
    for said in ({}, {"STATEFULSET_NAME": "bot"}):
        with pytest.raises(WrongEnvironmentError, match=r"hostNetwork.*set POD_INDEX from the label"):
            shards_of_pod({**POD, "SHARD_COUNT": "16", **said}, hostname="node-3")


@pytest.mark.parametrize(("pods", "count", "per_pod"), [(16, 16, 1), (4, 16, 4), (6, 16, 3), (1, 1, 1), (1, 5, 8)])
def test_all_pods_together_run_every_shard_once(pods, count, per_pod):
    said = {**POD, "SHARD_COUNT": f"{count}", "SHARDS_PER_POD": f"{per_pod}"}
    found = [of_pod({**said, "POD_INDEX": f"{pod}"}) for pod in range(pods)]
    assert [shard_id for shards in found for shard_id in shards.ids] == list(range(count))
    assert {shards.count for shards in found} == {count}


def test_more_pods_change_nothing_for_those_that_run():
    """The shard count is the bot's, whatever the number of pods: scaling is no resharding."""
    said = {**POD, "SHARD_COUNT": "16"}
    assert [of_pod({**said, "POD_INDEX": f"{pod}"}).ids for pod in (0, 3, 15)] == [(0,), (3,), (15,)]


def test_outside_of_kubernetes_the_library_asks_discord():
    assert shards_of_pod({}, hostname="laptop-2") is None
    assert shard_options({}) == {}


def test_a_machine_may_say_it_too():
    assert shard_options({"SHARD_COUNT": "4", "POD_INDEX": "1", "SHARDS_PER_POD": "2"}) == {
        "shard_ids": [2, 3],
        "shard_count": 4,
    }


@pytest.mark.parametrize(
    ("environment", "hostname", "who", "what"),
    [
        (POD, "bot-0", "SHARD_COUNT", "give the number of shards that the whole bot has"),
        ({"POD_INDEX": ""}, "bot-0", "SHARD_COUNT", "is not set"),
        ({"SHARDS_PER_POD": "2"}, "bot-0", "SHARD_COUNT", "is not set"),
        ({"SHARD_COUNT": "0"}, "bot-0", "SHARD_COUNT", "'0' is no number"),
        ({"SHARD_COUNT": "many"}, "bot-0", "SHARD_COUNT", "'many' is no number"),
        ({"SHARD_COUNT": "٣"}, "bot-0", "SHARD_COUNT", "is no number"),
        ({"SHARD_COUNT": "4", "SHARDS_PER_POD": "0"}, "bot-0", "SHARDS_PER_POD", "'0' is no number"),
        ({"SHARD_COUNT": "4", "POD_INDEX": "-1"}, "bot-0", "POD_INDEX", "'-1' is no number"),
        ({"SHARD_COUNT": "4"}, "bot-7d9f8b6c4-x2lqk", "POD_INDEX", "run the bot as a StatefulSet"),
        ({"SHARD_COUNT": "4", "POD_NAME": "bot-x2lqk"}, "bot-0", "POD_INDEX", "run the bot as a StatefulSet"),
        ({"SHARD_COUNT": "4"}, "bot-3", "POD_INDEX", "may be the name of a node"),
        ({"SHARD_COUNT": "4", "STATEFULSET_NAME": "bot"}, "node-3", "STATEFULSET_NAME", "'node-3' is none of its pods"),
        ({"SHARD_COUNT": "4", "STATEFULSET_NAME": "bot"}, "bot-2-3", "STATEFULSET_NAME", "is none of its pods"),
        (
            {"SHARD_COUNT": "4", "POD_INDEX": "0", "POD_INDEX_START": "1"},
            "bot-0",
            "POD_INDEX_START",
            "before the first",
        ),
        ({"SHARD_COUNT": "4", "POD_INDEX": "0", "POD_INDEX_START": "x"}, "bot-0", "POD_INDEX_START", "is no number"),
        (
            {"SHARD_COUNT": "4", "SHARDS_PER_POD": "3", "POD_INDEX": "2"},
            "",
            "SHARD_COUNT",
            "scale the StatefulSet to 2",
        ),
        ({"SHARD_COUNT": "4", "POD_INDEX": "4"}, "bot-4", "SHARD_COUNT", "reshards the whole bot"),
    ],
)
def test_what_it_refuses_and_whom_it_names(environment, hostname, who, what):
    with pytest.raises(WrongEnvironmentError, match=f"^{who}: .*{what}"):
        shards_of_pod(environment, hostname=hostname)
