"""Builds the site: ``python -m website``. Broken links and anchors are errors. The result is in ``.site/html``."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from website.stage import ROOT, StageError, stage

CONFIGURATION: Final = ROOT / "website/zensical.toml"
SITE: Final = ROOT / ".site"


def pages_of(navigation: list[Any]) -> list[str]:
    """Return the pages of a navigation, in its order, as paths from the root of the repository."""
    pages: list[str] = []
    for entry in navigation:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            pages += pages_of(target) if isinstance(target, list) else [_repository_path(target)]
    return pages


def navigation() -> list[Any]:
    """Return the navigation of the site, as its configuration has it."""
    configuration = tomllib.loads(CONFIGURATION.read_text(encoding="utf-8"))
    entries: list[Any] = configuration["project"]["nav"]
    return entries


def _repository_path(page: str) -> str:
    if page.endswith("index.md") and not (ROOT / page).exists():
        return f"{page.removesuffix('index.md')}README.md"
    return page


def main() -> int:
    """Stage the pages and build them; return the exit status."""
    try:
        stage(pages_of(navigation()), SITE / "pages")
    except StageError as error:
        print(error, file=sys.stderr)  # noqa: T201  # a program's answer
        return 1
    shutil.copy(CONFIGURATION, SITE / "zensical.toml")
    shutil.copy(ROOT / "website/extra.css", SITE / "pages/extra.css")
    shutil.rmtree(SITE / "html", ignore_errors=True)
    program = Path(sys.executable).parent / "zensical"
    command = [str(program), "build", "--strict", "--clean", "-f", str(SITE / "zensical.toml")]
    return subprocess.run(command, check=False, cwd=SITE).returncode  # noqa: S603  # our own arguments


if __name__ == "__main__":
    sys.exit(main())
