"""The site: its navigation is complete, each diagram is drawn, and the page of settings is the model's."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

import pytest

from coordinator.settings import Settings
from nats_identify import queue_from_environment, shard_options
from nats_identify.client.environment import WrongEnvironmentError
from website import metrics_table, settings_page
from website.__main__ import navigation, pages_of
from website.diagrams import texts
from website.stage import DIAGRAMS, ROOT, StageError, diagram_name, page_of, stage

PAGES = pages_of(navigation())


def test_the_navigation_has_each_page_of_the_documents_once():
    documents = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    listed = sorted(page for page in PAGES if page.startswith("docs/"))
    assert listed == documents, "write each page into nav of website/zensical.toml"
    assert len(set(PAGES)) == len(PAGES)


def test_each_diagram_is_drawn_and_none_is_left_over():
    drawn = {path.name for path in (ROOT / DIAGRAMS).glob("*.svg")}
    assert drawn == texts().keys(), "run python -m website.diagrams with npm's mermaid.min.js"


def test_no_diagram_loads_anything_from_another_host():
    for path in (ROOT / DIAGRAMS).glob("*.svg"):
        assert not re.search(r"(href|src)=\"https?:|@import|url\(['\"]?https?:", path.read_text()), path.name


def test_a_file_that_a_page_links_to_becomes_a_page_of_its_own(tmp_path):
    staged = stage(["docs/glossary.md", "docs/design.md"], tmp_path)
    assert "nats_identify/testing/judge.py" in staged
    assert "(../nats_identify/testing/judge.py.md)" in (tmp_path / "docs/design.md").read_text()
    shown = (tmp_path / "nats_identify/testing/judge.py.md").read_text()
    assert (ROOT / "nats_identify/testing/judge.py").read_text().rstrip() in shown


def test_a_folder_becomes_a_list_of_its_files(tmp_path):
    stage(["docs/protocol.md"], tmp_path)
    assert "(request.json.md)" in (tmp_path / "docs/schemas/index.md").read_text()


def test_a_link_that_leads_nowhere_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("website.stage.ROOT", tmp_path)
    (tmp_path / "page.md").write_text("`[code](gone.py)` and [this](gone.py)")
    with pytest.raises(StageError, match=r"page\.md: the link gone\.py leads nowhere"):
        stage(["page.md"], tmp_path / "staged")


def test_a_diagram_that_is_not_drawn_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("website.stage.ROOT", tmp_path)
    (tmp_path / "page.md").write_text("```mermaid\nflowchart LR\n```\n")
    with pytest.raises(StageError, match=diagram_name("flowchart LR")):
        stage(["page.md"], tmp_path / "staged")


def test_a_list_right_after_a_paragraph_stays_a_list(tmp_path, monkeypatch):
    monkeypatch.setattr("website.stage.ROOT", tmp_path)
    (tmp_path / "page.md").write_text("One:\n- a\n  more\n- b\n\n```\nx\n- y\n```\n")
    stage(["page.md"], tmp_path / "staged")
    assert (tmp_path / "staged/page.md").read_text() == "One:\n\n- a\n  more\n- b\n\n```\nx\n- y\n```\n"


def test_a_readme_is_the_index_of_its_folder():
    assert [page_of(path) for path in ("README.md", "deploy/k8s/README.md")] == ["index.md", "deploy/k8s/index.md"]


def test_the_page_of_settings_is_what_the_model_says():
    assert settings_page.PAGE.read_text() == settings_page.text(), "run python -m website.settings_page"


def test_the_page_of_settings_has_each_variable_of_a_coordinator_once():
    names = re.findall(r"^\| `(\w+)` \|", settings_page.text(), re.MULTILINE)
    assert len(set(names)) == len(names)
    assert {name.upper() for name in Settings.model_fields} <= set(names)


def test_the_page_of_the_coordinator_explains_each_variable():
    page = (ROOT / "docs/coordinator.md").read_text()
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in page] == []


def test_the_page_of_metrics_has_each_metric():
    assert metrics_table.PAGE.read_text() == metrics_table.text(), "run python -m website.metrics_table"
    assert "| `identify_leader` | gauge | 1 on the leader. |" in metrics_table.table()


class Environment(Mapping[str, str]):
    """An environment that keeps the names that were looked up."""

    def __init__(self, **values: str) -> None:
        self.values_of = values
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return self.values_of[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_of)

    def __len__(self) -> int:
        return len(self.values_of)


def test_the_page_of_settings_has_each_variable_that_the_library_reads():
    shown = settings_page.text()
    read = set()
    for values in ({}, {"NATS_URL": "nats://127.0.0.1:1", "NATS_USER": "a", "NATS_PASSWORD": "b"}):
        environment = Environment(**values)
        queue_from_environment(environment)
        read |= environment.read
    for values in ({"SHARD_COUNT": "4"}, {"SHARD_COUNT": "4", "POD_INDEX": "", "POD_NAME": "shards-1"}):
        environment = Environment(**values)
        with suppress(WrongEnvironmentError):  # not in a pod, perhaps; what it looked up counts
            shard_options(environment)
        read |= environment.read
    assert {"NATS_TLS_KEY", "IDENTIFY_PREFIX", "POD_INDEX_START", "STATEFULSET_NAME"} <= read
    assert [name for name in sorted(read) if f"| `{name}` |" not in shown] == []
