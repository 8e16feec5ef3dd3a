"""The product's words: the field's own for things, plain English for sentences, the same in source and documents."""

import io
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

VAGUE = re.compile(r"\b(nobody|whoever|so many)\b", re.IGNORECASE)
"""*No request*, *the caller*, *at most 20 requests* say it exactly."""

VAGUE_MAX = 15
"""In all product source, and in all of `DOCUMENTS`: a sentence may need one."""

HABITS = {
    "a relative clause without a subject": re.compile(r"(?:^|[.:;] |\"\"\")Who (?!leads\b|may\b)[a-z]+"),
    "a part of the program as a person": re.compile(
        r"\b(tells?|told|hears|believe[sd]?|slept|mouth|ears)\b", re.IGNORECASE
    ),
    "a vague word for a maximum": re.compile(r"\bso (many|often)\b", re.IGNORECASE),
    "an old word: it is a request": re.compile(r"\b(askings|(an|the|its|each|one|another) asking)\b"),
}
"""How a sentence must not be written, by the name of the habit."""

DOCUMENTS = [
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{name}.md"
        for name in ("budget", "commands", "coordinator", "failures", "life-of-a-request", "queues")
    ),
    *(ROOT / "docs" / f"{name}.md" for name in ("traps", "writing-a-queue")),
    *(ROOT / "docs" / f"{name}.md" for name in ("concepts", "faq", "settings", "start", "testing-your-bot")),
    *sorted((ROOT / "docs/operate").glob("*.md")),
]
"""Not docs/simulation.md: it names planted faults by their sentences."""


def name_of(path):
    return path.relative_to(ROOT).as_posix()


SOURCE = sorted(path for folder in ("nats_identify", "coordinator") for path in (ROOT / folder).rglob("*.py"))


def prose_of(path):
    """The comments and texts of a module, by their first lines, without what is code in them, or a name in quotes."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING}:
            yield token.start[0], re.sub(r"`[^`\n]*`|\{[^{}\n]*\}|\"\w+\":?", "", token.string)


def sentences_of(document):
    """The lines of a document, without blocks of code and code in the line."""
    text = re.sub(
        r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), document.read_text(), flags=re.DOTALL | re.MULTILINE
    )
    for number, line in enumerate(text.splitlines(), 1):
        yield number, re.sub(r"`[^`]*`", "", line)


def habits_in(lines):
    return [
        f"{number}: {habit}: {found[0]!r}"
        for number, text in lines
        for habit, pattern in HABITS.items()
        if (found := pattern.search(text))
    ]


@pytest.mark.parametrize("path", SOURCE, ids=name_of)
def test_source_is_written_in_plain_english(path):
    assert habits_in(prose_of(path)) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_documents_are_written_in_plain_english(document):
    assert habits_in(sentences_of(document)) == []


def test_vague_words_are_rare():
    count: Counter[str] = Counter()
    for path in SOURCE:
        count[name_of(path)] += len(VAGUE.findall(path.read_text()))
    assert count.total() <= VAGUE_MAX, +count


def test_vague_words_are_rare_in_documents():
    count = Counter({name_of(path): len(VAGUE.findall(path.read_text())) for path in DOCUMENTS})
    assert count.total() <= VAGUE_MAX, +count


OLD_NAMES = frozenset(
    {
        "AttemptAction",
        "AttemptEvent",
        "AttemptQueue",
        "Bench",
        "COMPLAIN_EVERY_S",
        "CopiedAsking",
        "HandOver",
        "Inbox",
        "MAX_BUCKETS",
        "Misbehaviour",
        "Pace",
        "Replies",
        "TrafficHeard",
        "Vitals",
        "Voice",
        "Weather",
        "asking",
        "askings",
        "book",
        "complain",
        "offer_request",
        "outlive",
        "tell_and_wait",
        "why_dead",
        "why_unready",
        "wish",
    }
)
"""Identifiers for which the field has its own word."""

OLD_CONSTANT = re.compile(r"_?([A-Z0-9]+_)+(MOST|LEAST)(_[A-Z0-9]+)?")
"""`X_MAX` and `X_MIN` are the names of bounds."""


@pytest.mark.parametrize("path", SOURCE, ids=name_of)
def test_old_names_do_not_come_back(path):
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.NAME:
            assert token.string not in OLD_NAMES, f"line {token.start[0]}"
            assert not OLD_CONSTANT.fullmatch(token.string), f"line {token.start[0]}: {token.string}"
