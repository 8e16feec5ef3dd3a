"""What the documents show is run: every block of Python, in order, and what it defines is used."""

import ast
import inspect
import re
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from nats_identify import LocalQueue
from nats_identify.testing import InstantQueue
from nats_identify.testing.conformance import NonConformingError, the_window_starts_at_identified

ROOT = Path(__file__).parents[2]
WRITING = ROOT / "docs/writing-a-queue.md"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


class Websocket:
    """A connection that keeps what was sent."""

    def __init__(self, *, is_closed: bool = False) -> None:
        self.is_closed = is_closed
        self.sent: list[str] = []

    async def send(self, text: str) -> None:
        self.sent.append(text)


def blocks_of(document: Path) -> list[CodeType]:
    """A document's blocks of Python; an error in one is told with its line in the document."""
    text = document.read_text()
    blocks = []
    for found in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        padding = "\n" * (text.count("\n", 0, found.start()) + 1)
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        blocks.append(compile(padding + found[1], document, "exec", flags=flags, dont_inherit=True))
    return blocks


async def run(document: Path, *, blocks: int | None = None, **names: Any) -> dict[str, Any]:
    """Run a document's first blocks, or all, as one program, with these names at hand; return all its names."""
    websocket = Websocket()

    async def connect() -> Websocket:
        return websocket

    program: dict[str, Any] = {"__name__": document.stem, "token": "not-one", "identify": "IDENTIFY"}
    program |= {"websocket": websocket, "connect": connect, **names}
    for block in blocks_of(document)[:blocks]:
        waiting = eval(block, program)  # noqa: S307  # it is our own document
        if inspect.isawaitable(waiting):
            await waiting
    return program


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
async def test_every_block_runs(document: Path):
    program = await run(document)
    for name in {"local", "large", "shared"} & program.keys():
        await program[name].close()


@pytest.mark.parametrize("name", ["identify_now", "connect_and_identify", "identify_again"])
async def test_each_form_of_a_turn_sends_identify_and_says_so(name: str):
    program = await run(ROOT / "docs/queues.md")
    await program["shared"].close()
    queue = InstantQueue()
    await program[name](queue, 0)
    assert program["websocket"].sent == ["IDENTIFY"]
    assert [outcome for outcome, _ in queue.outcomes] == ["identified"]


async def test_a_turn_that_is_not_wanted_any_more_is_declined():
    program = await run(ROOT / "docs/queues.md", websocket=Websocket(is_closed=True))
    await program["shared"].close()
    queue = InstantQueue()
    await program["identify_if_still_wanted"](queue, 0)
    assert [outcome for outcome, _ in queue.outcomes] == ["declined"]


async def test_the_queue_of_the_document_starts_a_shard():
    program = await run(WRITING, blocks=2)
    assert program["websocket"].sent == ["IDENTIFY"]


async def test_the_test_of_the_document_finds_what_is_broken():
    program = await run(WRITING, blocks=3)
    program["PlainQueue"].identified = program["PlainQueue"].decline
    with pytest.raises(NonConformingError):
        await program["test_my_queue"](the_window_starts_at_identified)


async def test_the_readme_starts_a_shard():
    program = await run(ROOT / "README.md")
    queue = LocalQueue()
    await program["start_shard"](queue, 0, program["connect"], "IDENTIFY")
    assert program["websocket"].sent == ["IDENTIFY"]
    await queue.close()
