"""The documents as a whole: each link leads somewhere, and the protocol page names each field."""

import inspect
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from coordinator.edge import peer_messages
from nats_identify import operator_wire, wire
from nats_identify.schedule.model import Outcome, Reason

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "deploy", "tests/lab", "examples")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
PROTOCOL = (ROOT / "docs/protocol.md").read_text()

LINK = re.compile(r"(?<!\\)\]\(<?([^)\s>]+)>?\)")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def prose_of(text):
    """The text without fenced blocks, whose brackets are code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors_of(text):
    """The anchors that a heading gets where Markdown is shown: lower case, no punctuation, hyphens for blanks."""
    anchors = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose_of(text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        anchor = unique = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        number = 0
        while unique in anchors:
            number += 1
            unique = f"{anchor}-{number}"
        anchors.add(unique)
    return anchors


def leads_somewhere(link, document, text):
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    if not target.is_relative_to(ROOT) or not target.exists():
        return False
    return not anchor or anchor in anchors_of(target.read_text() if path else text)


def wrong_links(document, text):
    """Each relative link of a document that leads nowhere."""
    prose = re.sub(r"`[^`\n]*`", "", prose_of(text))
    relative = [link for link in LINK.findall(prose) if not re.match(r"[a-z]+:", link)]
    return [link for link in relative if not leads_somewhere(link, document, text)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_each_link_leads_to_something(document):
    assert wrong_links(document, document.read_text()) == []


def test_a_link_that_leads_nowhere_is_found():
    text = "# One `two`\n[a](#one-two) [b](#three) [c](docs/none.md) [d](docs/traps.md#the-send) [e](docs/traps.md#no)"
    assert wrong_links(ROOT / "README.md", text) == ["#three", "docs/none.md", "docs/traps.md#no"]


def test_the_readme_lists_no_page_twice():
    """The site's navigation has each of them: tests/unit/test_website.py."""
    section = (ROOT / "README.md").read_text().partition("\n## Documentation\n")[2].partition("\n## ")[0]
    listed = [link for link in LINK.findall(section) if link.startswith("docs/")]
    assert listed
    assert len(set(listed)) == len(listed)


def test_the_glossary_has_ten_private_terms_at_most():
    terms = re.findall(r"^\| \*\*(\w+)\*\* \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    assert 0 < len(terms) <= 10


def models_of(module):
    """The messages that a module defines itself."""
    classes = (value for _, value in inspect.getmembers(module, inspect.isclass))
    return [one for one in classes if issubclass(one, BaseModel) and one.__module__ == module.__name__]


LEDGER = [model for model in models_of(peer_messages) if model.__name__.startswith("Ledger")]


@pytest.mark.parametrize("model", [*models_of(wire), *LEDGER], ids=lambda model: model.__name__)
def test_the_protocol_page_names_each_field(model):
    spans = set(re.findall(r"`([^`\n]+)`", prose_of(PROTOCOL)))
    assert set(model.model_fields) - spans - {"reply"} == set()  # `reply` wraps one to read it, and is not sent


def test_the_protocol_page_has_each_code_reason_and_outcome():
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", PROTOCOL, re.MULTILINE))
    assert rows == {str(code): str(number) for code, number in wire.ERROR_NUMBERS.items()}
    for value in (*Reason, *Outcome):
        assert re.search(rf"^\| `{value}` \|", PROTOCOL, re.MULTILINE), value


def test_the_exchange_of_the_protocol_page_is_in_the_contract():
    lines = re.findall(r"^ *\d+\.\d{3} ([→←]) (.*)$", PROTOCOL, re.MULTILINE)
    assert {arrow for arrow, _ in lines} == {"→", "←"}
    for (arrow, line), (_, following) in pairwise([*lines, ("", "")]):
        subject, _, payload = line.partition(" ")
        command = subject.removeprefix("identify.")
        if arrow == "←" and '"command"' in line:
            operator_wire.decode_command_reply(line.encode())
        elif arrow == "→" and command in set(operator_wire.Command):
            payload_model = getattr(operator_wire, command.capitalize())
            assert not set(json.loads(payload)) - payload_model.model_fields.keys()
            payload_model.model_validate_json(payload)
        elif arrow == "←":
            wire.decode_reply(re.sub(r" \[[^\]]*\]$", "", line).encode())
        elif subject.startswith("identify.request.") and '"bad_request"' in following:
            with pytest.raises(ValidationError):
                wire.Request.model_validate_json(payload)
        elif subject.startswith("identify.request."):
            assert not set(json.loads(payload or "{}")) - wire.Request.model_fields.keys()
            wire.Request.model_validate_json(payload or "{}")
        else:
            assert re.fullmatch(r'identify\.confirm\.\d+\.[\w-]+( \{"outcome":"(identified|ready)"\})?', line), line
