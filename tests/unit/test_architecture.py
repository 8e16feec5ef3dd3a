"""The house rules, as tests: what must never be in a room."""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ("nats_identify/schedule", "coordinator/core")
CORE_MAY_IMPORT = {
    *("abc", "bisect", "collections", "dataclasses", "enum", "heapq", "itertools", "math", "typing"),
    *("nats_identify.schedule", "coordinator.core"),
}
CORE_CODE_LINES_MOST = 1_830
MODULE_LINES_MOST = 345
FUNCTION_LINES_MOST = 55


def modules(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def code_lines(path):
    """The lines that hold code: no blank ones, comments or docstrings."""
    source = path.read_text()
    told = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            told.update(range(node.lineno, node.end_lineno + 1))
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in layout:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - told)


@pytest.mark.parametrize("path", modules(*CORE), ids=name_of)
def test_the_core_imports_only_itself_and_what_is_pure(path):
    for name in imports(path):
        assert any(name == allowed or name.startswith(f"{allowed}.") for allowed in CORE_MAY_IMPORT), name


def test_the_core_loads_no_clock_no_loop_no_network():
    program = (
        "import sys, coordinator.core.replica\n"
        "banned = {'asyncio', 'random', 'nats', 'pydantic', 'aiohttp', 'structlog'}\n"
        "print(sorted(banned & sys.modules.keys()))"
    )
    # The package's front door imports the queues; the core itself must not need it.
    bare = "import sys, types; door = types.ModuleType('nats_identify'); door.__path__ = [sys.argv[1]]\n"
    bare += "sys.modules['nats_identify'] = door\n"
    command = [sys.executable, "-c", bare + program, str(ROOT / "nats_identify")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize("path", modules(*CORE), ids=name_of)
def test_the_core_asks_nobody_for_the_time(path):
    assert not {"asyncio", "time", "random", "nats", "pydantic"} & set(imports(path))


def test_the_core_reads_in_one_sitting():
    assert sum(code_lines(path) for path in modules(*CORE)) <= CORE_CODE_LINES_MOST


@pytest.mark.parametrize("path", modules("nats_identify"), ids=name_of)
def test_the_library_never_imports_the_server(path):
    assert not any(name.split(".")[0] == "coordinator" for name in imports(path))


@pytest.mark.parametrize("path", [ROOT / "nats_identify/attempt.py"], ids=name_of)
def test_the_attempt_is_pure_too(path):
    assert not {"asyncio", "time", "random", "nats", "aiohttp"} & set(imports(path))


def test_a_bot_that_waits_loads_no_optional_extra():
    # aiohttp is not among them: nats-py itself loads it where it is installed.
    program = (
        "import sys, nats_identify\n"
        "extras = {'typer', 'rich', 'structlog', 'prometheus_client', 'pydantic_settings', 'discord'}\n"
        "print(sorted(extras & sys.modules.keys()))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize("path", modules("nats_identify", "coordinator", "benchmarks", "examples"), ids=name_of)
def test_every_room_says_its_job_and_is_small(path):
    source = path.read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree), "a file's first sentence says its one job"
    assert len(source.splitlines()) <= MODULE_LINES_MOST
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MOST, f"{node.name} does not fit on a screen"


def test_no_test_sleeps_and_hopes():
    """A sleep is allowed where its line says why, as between the looks of a poll with a deadline."""
    for path in modules("tests"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "sleep(" in line and "sleep(0)" not in line and path.name != "test_architecture.py":
                assert "#" in line, f"{name_of(path)}:{number}: poll for a condition with a deadline"
