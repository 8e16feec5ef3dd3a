"""The histories beside this file are what the core does, to the letter; `REWRITE_HISTORIES=1` writes them anew.

A history is a comment that says what it shows, and commands. Beneath each command and a line `----` is what happened.
"""

import os
from pathlib import Path

import pytest

from tests.histories.commands import History

FILES = sorted(Path(__file__).parent.glob("*.txt"))
SEPARATOR = "----"


def blocks_of(text):
    """The parts of a history: comments as they are, commands without what happened."""
    for block in text.strip().split("\n\n"):
        yield block.partition(f"\n{SEPARATOR}")[0]


def played(text):
    """The whole history, with what happens now."""
    history, parts = History(), []
    for block in blocks_of(text):
        commands = [line for line in block.splitlines() if not line.startswith("#")]
        if not commands:
            parts.append(block)
            continue
        happened = [line for command in commands for line in history.run(command)]
        parts.append("\n".join([block, SEPARATOR, *happened]))
    return "\n\n".join(parts) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_core_does_what_the_history_says(path):
    text = path.read_text()
    now = played(text)
    if os.environ.get("REWRITE_HISTORIES"):
        path.write_text(now)
        return
    assert now.splitlines() == text.splitlines(), f'{path.name}: see CONTRIBUTING.md, "Histories"'


def test_each_history_begins_with_what_it_shows():
    assert len(FILES) >= 10
    for path in FILES:
        assert path.read_text().startswith("# "), path.name
