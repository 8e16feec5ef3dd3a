"""The house rules, as tests: what must never be in a room."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ("nats_identify/schedule", "coordinator/core")
CORE_MAY_IMPORT = {
    *("abc", "bisect", "collections", "dataclasses", "enum", "hashlib", "heapq", "itertools", "math"),
    *("operator", "typing"),
    *("nats_identify.schedule", "coordinator.core"),
}
FUNCTION_LINES_MAX = 55
TEST_FILE_LINES_MAX = 450


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


@pytest.mark.parametrize("path", modules("nats_identify"), ids=name_of)
def test_the_library_never_imports_the_server(path):
    assert not any(name.split(".")[0] == "coordinator" for name in imports(path))


@pytest.mark.parametrize("path", [ROOT / "nats_identify/client/requester.py"], ids=name_of)
def test_the_attempt_is_pure_too(path):
    assert not {"asyncio", "time", "random", "nats", "aiohttp"} & set(imports(path))


def test_a_bot_that_waits_loads_no_optional_extra_and_no_coordinator():
    # aiohttp is not among them: nats-py itself loads it where it is installed.
    program = (
        "import sys, nats_identify\n"
        "extras = {'typer', 'rich', 'structlog', 'prometheus_client', 'pydantic_settings', 'discord', 'coordinator'}\n"
        "print(sorted(extras & sys.modules.keys()))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize("path", modules("nats_identify", "coordinator", "benchmarks", "examples"), ids=name_of)
def test_every_file_says_its_job_and_its_functions_are_small(path):
    source = path.read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree), "a file's first sentence says its one job"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, f"{node.name} does not fit on a screen"


@pytest.mark.parametrize("path", [path for path in modules("tests") if path.name.startswith("test_")], ids=name_of)
def test_a_file_of_tests_has_one_topic(path):
    assert len(path.read_text().splitlines()) <= TEST_FILE_LINES_MAX, "split it by topic"


STATE_REACHES_MAX = 17
PRIVATE_READS_MAX = 54
"""Of tests/unit and tests/simulation together, without the view and the invariants: fewer is better, more is not."""


def test_tests_look_at_the_core_through_one_view():
    """`tests.view` reads the state. Others pass a whole state to what takes one, or change it; some read privates."""
    states = privates = 0
    for path in modules("tests/unit", "tests/simulation"):
        if path.name == "test_invariants.py":  # it breaks a state in all ways
            continue
        tree = ast.parse(path.read_text())
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        found = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        own = {node.attr for node in found if is_self(node.value) and isinstance(node.ctx, ast.Store)} | defined
        states += sum(1 for node in found if ast.unparse(node).endswith("schedule.state"))
        private = [node.attr for node in found if not is_self(node.value) and re.match("_[^_]", node.attr)]
        privates += sum(1 for name in private if name not in own and name != "_replace")  # public, of a NamedTuple
    assert (states <= STATE_REACHES_MAX, privates <= PRIVATE_READS_MAX) == (True, True), (states, privates)


def is_self(node):
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def test_no_test_sleeps_and_hopes():
    """A sleep is allowed where its line says why, as between the looks of a poll with a deadline."""
    for path in modules("tests"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "sleep(" in line and "sleep(0)" not in line and path.name != "test_architecture.py":
                assert "#" in line, f"{name_of(path)}:{number}: poll for a condition with a deadline"
