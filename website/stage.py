"""Copies the documents into the form that the site generator needs. It reads the repository and writes one folder.

On GitHub the pages are plain Markdown whose links lead into the tree. The site has the same pages at the same places,
and for each file of the source that a page links to, a page that shows it. So the site is complete by itself.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DIAGRAMS: Final = "docs/images/diagrams"

_FENCE: Final = re.compile(r"^( *)(`{3,}|~{3,})([^\n]*)\n(.*?)^\1\2[ \t]*$", re.DOTALL | re.MULTILINE)
_CODE: Final = re.compile(r"`[^`\n]*`")
_LINK: Final = re.compile(r"(\]\()([^)\s#]+)?(#[^)\s]*)?(\))")
_ITEM: Final = re.compile(r"^ {0,3}([-*]|\d+\.) ")
_PICTURES: Final = {".svg", ".png", ".jpg"}
_LANGUAGES: Final = {
    ".go": "go",
    ".json": "json",
    ".py": "python",
    ".rs": "rust",
    ".sh": "bash",
    ".toml": "toml",
    ".ts": "typescript",
    ".yaml": "yaml",
}


class StageError(Exception):
    """A page cannot be staged; the message names the page and what to do."""


def diagram_name(text: str) -> str:
    """Return the file of the picture of a Mermaid block: it changes with the text."""
    return f"{hashlib.sha256(text.strip().encode()).hexdigest()[:12]}.svg"


def mermaid_blocks(text: str) -> Iterator[str]:
    """Yield the text of each Mermaid block of a page."""
    for found in _FENCE.finditer(text):
        if found[3].strip() == "mermaid":
            yield found[4].strip()


def stage(start: list[str], target: Path) -> list[str]:
    """Stage these pages, and all that they link to.

    Args:
        start: paths from the root of the repository, such as ``docs/budget.md``.
        target: the folder to write; what it had is removed.

    Returns:
        What was staged, as paths from the root.

    Raises:
        StageError: a link leads nowhere, or a Mermaid block has no picture.
        FileNotFoundError: there is no such page.
    """
    shutil.rmtree(target, ignore_errors=True)
    done: dict[str, None] = {}
    waiting = list(start)
    while waiting:
        path = waiting.pop(0)
        if path not in done:
            done[path] = None
            waiting += _stage_one(path, target)
    return list(done)


def page_of(path: str) -> str:
    """Return where the site has a file or folder of the repository, as a path of the staged folder."""
    if path.endswith("README.md"):
        return f"{path.removesuffix('README.md')}index.md"
    if PurePosixPath(path).suffix == ".md" or PurePosixPath(path).suffix in _PICTURES:
        return path
    return f"{path}/index.md" if (ROOT / path).is_dir() else f"{path}.md"


def _stage_one(path: str, target: Path) -> list[str]:
    source, staged = ROOT / path, target / page_of(path)
    staged.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix in _PICTURES:
        shutil.copy(source, staged)
        return []
    if source.is_dir():
        names = sorted(f"{path}/{one.name}" for one in source.iterdir() if not one.name.startswith(("__", ".")))
        listed = "\n".join(f"- [{name}]({_relative(path, name)})" for name in names)
        staged.write_text(f"{_unlisted(path)}\n{listed}\n", encoding="utf-8")
        return names
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".md":
        text, links = _page(path, text)
        staged.write_text(text, encoding="utf-8")
        return links
    staged.write_text(_source_page(path, text), encoding="utf-8")
    return []


def _unlisted(path: str) -> str:
    """A page of source is found by its link, not by the search."""
    return f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n"


def _source_page(path: str, text: str) -> str:
    fence = "`" * max(4, 1 + max((len(ticks) for ticks in re.findall(r"`+", text)), default=0))
    language = _LANGUAGES.get(PurePosixPath(path).suffix, "text")
    return f'{_unlisted(path)}\n{fence}{language} linenums="1"\n{text.rstrip()}\n{fence}\n'


def _page(path: str, text: str) -> tuple[str, list[str]]:
    """Return the page as the site has it, and what it links to, as paths from the root."""
    links: list[str] = []
    staged = []
    end = 0
    for fence in _FENCE.finditer(text):
        staged += [_prose(path, text[end : fence.start()], links), _block(path, fence, links)]
        end = fence.end()
    staged.append(_prose(path, text[end:], links))
    return "".join(staged), links


def _block(path: str, fence: re.Match[str], links: list[str]) -> str:
    if fence[3].strip() != "mermaid":
        return fence[0]
    picture = f"{DIAGRAMS}/{diagram_name(fence[4])}"
    if not (ROOT / picture).exists():
        message = f"{path}: a Mermaid block has no picture {picture}; run python -m website.diagrams"
        raise StageError(message)
    links.append(picture)
    return f"![]({_relative(path, picture)})"


def _prose(path: str, text: str, links: list[str]) -> str:
    text = _with_blank_lines(text)
    codes = [(found.start(), found.end()) for found in _CODE.finditer(text)]

    def replace(found: re.Match[str]) -> str:
        link = found[2]
        if link is None or re.match(r"[a-z]+:", link) or any(start <= found.start() < end for start, end in codes):
            return found[0]
        linked = normpath(PurePosixPath(path).parent / link)
        if linked.startswith("..") or not (ROOT / linked).exists():
            message = f"{path}: the link {link} leads nowhere"
            raise StageError(message)
        links.append(linked)
        return f"{found[1]}{_relative(path, linked)}{found[3] or ''}{found[4]}"

    return _LINK.sub(replace, text)


def _relative(path: str, linked: str) -> str:
    return relpath(page_of(linked), PurePosixPath(page_of(path)).parent)


def _with_blank_lines(text: str) -> str:
    """Put a blank line before each list that follows a paragraph: Python-Markdown needs it, GitHub does not."""
    lines: list[str] = []
    in_list = False
    for line in text.split("\n"):
        is_item = _ITEM.match(line) is not None
        if is_item and not in_list and lines and lines[-1].strip():
            lines.append("")
        in_list = is_item or (in_list and (line.startswith("  ") or not line.strip()))
        lines.append(line)
    return "\n".join(lines)
