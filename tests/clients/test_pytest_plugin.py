"""The test file of docs/testing-your-bot.md, run by pytest with the real discord.py."""

import asyncio
import re
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

from tests.clients.environments import FAMILY
from tests.processes import WITHIN_S

DOCUMENT = Path(__file__).parents[2] / "docs/testing-your-bot.md"


async def test_the_test_file_of_the_document_does_what_it_says(tmp_path):
    conftest, program = re.findall(r"^```py\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_bot.py").write_text(program)
    command = (str(FAMILY["discord_py"].python()), "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider")
    running = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=PIPE, stderr=STDOUT)
    printed = (await asyncio.wait_for(running.communicate(), 2 * WITHIN_S))[0].decode()
    assert "1 failed, 2 passed" in printed, printed
    assert "FAILED test_bot.py::test_two_processes_that_share_no_queue" in printed, printed
    assert re.search(r"shard \d, bucket 0: 0\.\d+ s after the IDENTIFY before it", printed), printed
