"""Draws the Mermaid blocks of the documents as pictures for the site: ``python -m website.diagrams MERMAID``.

GitHub draws the blocks itself. In a page of one's own Mermaid would be fetched from another host each time; so the
pictures are drawn once and kept. ``MERMAID`` is ``mermaid.min.js``, of npm's package ``mermaid``; Chromium draws.
"""

import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from website.__main__ import navigation, pages_of
from website.stage import DIAGRAMS, ROOT, diagram_name, mermaid_blocks

DRAW: Final = """<!doctype html><meta charset="utf-8"><body><script src="{mermaid}"></script><script>
mermaid.initialize({{startOnLoad: false, theme: "neutral", htmlLabels: false, flowchart: {{htmlLabels: false}},
  sequence: {{wrap: true}},
  themeVariables: {{noteBkgColor: "#fff5cc", noteTextColor: "#222", noteBorderColor: "#ccb"}},
  fontFamily: "sans-serif"}});
mermaid.render("diagram", {text}).then(({{svg}}) => {{ document.body.textContent = "<drawn>" + svg + "</drawn>"; }});
</script>"""


def texts() -> dict[str, str]:
    """Return each Mermaid block of the site's pages, by the name of its picture."""
    pages = [(ROOT / page).read_text(encoding="utf-8") for page in pages_of(navigation())]
    return {diagram_name(block): block for page in pages for block in mermaid_blocks(page)}


def draw(text: str, mermaid: Path) -> str:
    """Return one block as SVG.

    Raises:
        RuntimeError: Chromium drew nothing; the message has what it printed.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(DRAW.format(mermaid=mermaid.resolve().as_uri(), text=json.dumps(text)), encoding="utf-8")
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
        command += ["--allow-file-access-from-files", f"--user-data-dir={folder}/profile", page.as_uri()]
        drawn = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)  # noqa: S603
    found = re.search(r"&lt;drawn&gt;(.*)&lt;/drawn&gt;", drawn.stdout, re.DOTALL)
    if found is None:
        message = f"nothing was drawn: {drawn.stdout[:1000]} {drawn.stderr[-1000:]}"
        raise RuntimeError(message)
    svg = html.unescape(found[1])
    box = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ([\d.]+)"', svg)
    if box is not None:  # an image without a size of its own is as wide as the page
        svg = re.sub(r'width="100%"', f'width="{box[1]}" height="{box[2]}"', svg, count=1)
    return svg + "\n"


def main() -> None:
    """Draw what has no picture yet, and remove pictures of what is gone."""
    folder = ROOT / DIAGRAMS
    folder.mkdir(parents=True, exist_ok=True)
    wanted = texts()
    for picture in folder.glob("*.svg"):
        if picture.name not in wanted:
            picture.unlink()
    for name, text in wanted.items():
        if not (folder / name).exists():
            (folder / name).write_text(draw(text, Path(sys.argv[1])), encoding="utf-8")


if __name__ == "__main__":
    main()
