"""What is made from the product for other languages: JSON Schemas, AsyncAPI, test vectors. They say what it does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from nats_identify.operator_wire import Command
from nats_identify.testing.client_kit import schemas, vectors
from nats_identify.testing.client_kit.schemas import MESSAGES, schema_of
from nats_identify.wire import ERROR_NUMBERS, Subjects

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ASYNCAPI = DOCS / "asyncapi.yaml"
SHIPPED: dict[str, Any] = json.loads(vectors.FILE.read_text())
KINDS = {"request": "request", "confirm": "confirm", "cancel": "cancel"}
"""The schema of what is published, by the second token of its subject."""


@pytest.mark.parametrize("name", MESSAGES)
def test_a_schema_is_that_of_the_product(name: str):
    command = "python -m nats_identify.testing.client_kit.schemas docs/schemas"
    assert (DOCS / "schemas" / f"{name}.json").read_text() == schemas.text_of(name), f"run {command}"
    Draft202012Validator.check_schema(schema_of(name))


def test_no_other_schema_is_there():
    assert {path.stem for path in (DOCS / "schemas").iterdir()} == set(MESSAGES)


def test_the_vectors_are_those_of_the_product():
    command = "python -m nats_identify.testing.client_kit.vectors > nats_identify/testing/client_kit/vectors.json"
    assert vectors.FILE.read_text() == vectors.text(), f"run {command}"


def problems(name: str, payload: object) -> list[str]:
    return [error.message for error in Draft202012Validator(schema_of(name)).iter_errors(payload)]


@pytest.mark.parametrize("exchange", SHIPPED["exchanges"], ids=lambda exchange: exchange["name"])
def test_the_messages_of_a_vector_have_their_schemas(exchange: dict[str, Any]):
    for step in exchange["steps"]:
        if step["event"] == "message":
            assert problems(step["payload"]["status"], step["payload"]) == []
        for sent in step["out"]:
            if "publish" in sent:
                assert problems(KINDS[sent["publish"].split(".")[1]], sent["payload"]) == []


def test_the_vectors_show_each_thing_that_a_client_does():
    out = [sent for exchange in SHIPPED["exchanges"] for step in exchange["steps"] for sent in step["out"]]
    assert {sent["publish"].split(".")[1] for sent in out if "publish" in sent} == set(KINDS)
    assert {key for sent in out for key in sent} == {"publish", "payload", "may_identify", "until_ms", "begin"}


def test_the_schema_and_the_product_accept_the_same_requests():
    """But for what is no JSON, of which a schema says nothing."""
    seen = set()
    for request in SHIPPED["requests"]:
        try:
            payload = json.loads(request["payload"] or "{}")
        except ValueError:
            assert not request["accepted"]
            continue
        assert (problems("request", payload) == []) is request["accepted"], request
        seen.add(request["accepted"])
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("queued", {"status": "granted"}),
        ("confirm", {"outcome": "sent"}),
        ("cancel", {}),
        ("granted", {"status": "granted", "shard_id": 0}),
    ],
)
def test_a_schema_finds_what_is_wrong(name: str, payload: object):
    assert problems(name, payload)


def test_a_newer_reason_or_code_is_no_error():
    newer = {"status": "refused", "code": "of_a_later_version", "message": "", "and": "more"}
    assert problems("refused", newer) == []


# --- AsyncAPI


def references(node: object):
    """Every ``$ref`` of a document."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolved(document: dict[str, Any], reference: str) -> object:
    """What a reference leads to, in the document or in a file beside it.

    Raises:
        LookupError: nothing.
    """
    file, _, path = reference.partition("#")
    node = json.loads((DOCS / file).read_text()) if file else document
    for part in filter(None, path.split("/")):
        node = node[part]
    return node


@pytest.fixture
def asyncapi() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(ASYNCAPI.read_text())
    return loaded


def test_each_reference_leads_to_something(asyncapi):
    found = set(references(asyncapi))
    for reference in found:
        assert resolved(asyncapi, reference)
    assert {f"schemas/{name}.json" for name in MESSAGES} <= found
    with pytest.raises(LookupError):
        resolved(asyncapi, "#/components/messages/none")


def test_the_addresses_are_those_of_the_product(asyncapi):
    subjects = Subjects("bots.alpha")
    expected = {
        "request": subjects.request(3),
        "confirm": subjects.confirm(3, "g1"),
        "cancel": subjects.cancel(3),
        "info": subjects.info,
        "status": subjects.status,
        "refresh": subjects.refresh,
        **{command.value: subjects.command(command) for command in Command},
        "replies": None,
        "infoReply": None,
        "statusReply": None,
        "commandReply": None,
    }
    values = {"prefix": "bots.alpha", "bucket": "3", "grant_id": "g1"}
    addresses = {name: channel["address"] for name, channel in asyncapi["channels"].items()}
    assert {name: address and address.format(**values) for name, address in addresses.items()} == expected


def test_each_channel_has_the_parameters_of_its_address(asyncapi):
    assert asyncapi["asyncapi"] == "3.0.0"
    for channel in asyncapi["channels"].values():
        assert set(channel.get("parameters", {})) == set(re.findall(r"\{(\w+)\}", channel["address"] or ""))
        assert channel["messages"]


def test_each_operation_sends_or_receives_on_a_channel(asyncapi):
    for operation in asyncapi["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"]["$ref"].startswith("#/channels/")
        assert operation["summary"]
    used = {reference for operation in asyncapi["operations"].values() for reference in references(operation)}
    assert {f"#/channels/{name}" for name in asyncapi["channels"]} <= used


def test_the_error_numbers_are_those_of_the_product(asyncapi):
    header = asyncapi["components"]["messages"]["refused"]["headers"]["properties"]["Nats-Service-Error-Code"]
    assert {int(number) for number in header["enum"]} == set(ERROR_NUMBERS.values())
