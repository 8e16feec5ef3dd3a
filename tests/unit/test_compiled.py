"""What mypyc is given says the same as what is judged; what cannot be compiled is refused. No compiler runs here."""

from dataclasses import replace
from typing import Any

import pytest

from compiled.__main__ import MODULES, main
from compiled.build import CannotCompileError, build
from compiled.text import compilable
from tests.processes import ROOT

TEXT = '''
from dataclasses import dataclass, field
@dataclass(frozen=True, slots=True)
class Pair:
    """Two."""
    one: int
    two: list[int] = field(default_factory=list)
    key: bytes = field(default=b"", repr=False)

    @property
    def sum(self) -> int:
        return self.one + sum(self.two)
'''


def test_a_dataclass_with_a_constructor_as_text_is_the_same():
    namespace: dict[str, Any] = {}
    exec(compilable(TEXT), namespace)  # noqa: S102  # the text above
    pair = namespace["Pair"](1)
    assert (pair.one, pair.two, pair.key, pair.sum) == (1, [], b"", 1)
    other = replace(pair, two=[3])
    assert (other, other.sum) == (namespace["Pair"](1, [3]), 4)
    assert namespace["Pair"].__match_args__ == ("one", "two", "key")
    assert "__init__" in vars(namespace["Pair"])


ONE = """
from dataclasses import dataclass
@dataclass(frozen=True)
class One:
    a: int
"""


def test_a_frozen_one_can_be_hashed_and_a_constant_of_a_day_is_not_final():
    namespace: dict[str, Any] = {}
    text = f"\nDAY: Final = 5\n{ONE}"
    exec(compilable(text), namespace)  # noqa: S102  # the text above
    assert hash(namespace["One"](1)) == hash(namespace["One"](1))
    assert "Final =" not in compilable(text)


@pytest.mark.parametrize("pattern", MODULES)
def test_each_name_stands_for_a_module(pattern):
    assert list(ROOT.glob(pattern))


def test_a_folder_without_the_packages_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "coordinator").mkdir()
    (tmp_path / "coordinator/__init__.py").touch()
    monkeypatch.setattr("sys.argv", ["compiled", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"{tmp_path} does not hold nats_identify\n" in capsys.readouterr().err


def test_without_mypyc_it_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text(ONE)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(CannotCompileError, match="install mypy"):
        build(tmp_path, ["one.py"])
