"""Child processes: what they say, how they die, and that none is left."""

import asyncio
import os
import sys

import pytest

from nats_identify.processes.subprocesses import ChildDiedError, Children
from tests.processes import until

PYTHON = (sys.executable, "-c")
FOR_EVER = "import signal, sys; print('here', flush=True); signal.pause()"


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


async def test_the_first_line_is_the_child_s_own_and_stderr_is_none_of_it():
    async with asyncio.timeout(120), Children() as children:
        program = "import sys; print('warning', file=sys.stderr, flush=True); " + FOR_EVER
        child = await children.start("one", *PYTHON, program)
        assert await children.run_while_alive(child.first_line()) == "here\n"


async def test_a_child_that_dies_ends_the_work_and_its_last_lines_are_kept():
    program = "import sys; [print(n) for n in range(100)]; print('no [more]', file=sys.stderr); sys.exit(3)"
    async with asyncio.timeout(120), Children() as children:
        await children.start("other", *PYTHON, FOR_EVER)
        await children.start("one", *PYTHON, program)
        with pytest.raises(ChildDiedError, match=r"(?s)^one ended with status 3\n.*  \| 99\b") as died:
            await children.run_while_alive(asyncio.Event().wait())
    assert died.value.status == 3
    assert "no [more]" in str(died.value)
    assert len(str(died.value).splitlines()) <= 21


async def test_endless_lines_do_not_stop_the_reading():
    program = "import sys; sys.stdout.write('x' * 1_000_000); sys.stdout.write('\\nend\\n'); sys.exit(1)"
    async with asyncio.timeout(120), Children() as children:
        await children.start("one", *PYTHON, program)
        with pytest.raises(ChildDiedError, match=r"end$"):
            await children.run_while_alive(asyncio.Event().wait())


async def test_none_is_left_not_even_one_that_ignores_sigterm_or_a_grandchild(monkeypatch):
    monkeypatch.setattr("nats_identify.processes.subprocesses.STOP_WITHIN_S", 0.1)
    program = "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    program += "print(subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']).pid, flush=True); "
    program += "signal.pause()"
    async with asyncio.timeout(120):
        async with Children() as children:
            child = await children.start("stubborn", *PYTHON, program)
            grandchild_id = int(await child.first_line())
        assert child.ended.result() == -9

        async def is_gone():
            return not is_alive(grandchild_id)

        await until(is_gone, "init has reaped the grandchild")


async def test_work_that_fails_leaves_none():
    async with asyncio.timeout(120):
        children = Children()
        child = await children.start("one", *PYTHON, FOR_EVER)
        with pytest.raises(RuntimeError, match="work"):
            async with children:
                raise RuntimeError("work")
        assert child.ended.done()


async def test_another_s_death_can_be_minded():
    async def wait_dead():
        return ChildDiedError("a stranger", None, ["last words"])

    async with asyncio.timeout(120), Children() as children:
        children.watch(wait_dead)
        with pytest.raises(ChildDiedError, match=r"a stranger ended\n  \| last words"):
            await children.run_while_alive(asyncio.Event().wait())
