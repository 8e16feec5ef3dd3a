"""Measures this queue and its peers, and writes tables and a picture: `make bench`. It asserts nothing.

python -m benchmarks [--full] [--only NAME …] [--output FOLDER] [--docs]
"""

import argparse
import asyncio
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.contestants import ROOT, find_contestants
from benchmarks.plots import draw
from benchmarks.progress import Progress
from benchmarks.results import Outcome, Results, describe_machine, table
from benchmarks.scenarios import Bench
from benchmarks.scenarios.every import EVERY

OUTPUT: Final = ROOT / ".bench"
DOCUMENT: Final = ROOT / "docs/benchmarks.md"
MARK: Final = "<!-- measured: everything below is written by `python -m benchmarks --docs` -->\n"


async def measure(names: list[str], *, is_full: bool, progress: Progress) -> Results:
    """Run these scenarios. One that fails is left out, with its reason, and the others go on."""
    machine = describe_machine()
    begun_s = time.monotonic()
    progress.begin("Installing the contestants")
    contestants, left_out = find_contestants(progress.say)
    installed_s = time.monotonic() - begun_s
    for name, why in left_out.items():
        progress.end(f"{name} is left out: {why}")
    bench = Bench(contestants, progress, is_full)
    outcomes: list[Outcome] = []
    for name in names:
        progress.begin(f"{name}: {_sentence(name)}")
        try:
            measured = await EVERY[name](bench)
        except Exception as error:  # the other scenarios go on
            left_out[name] = f"{type(error).__name__}: {error}"[:200]
            progress.end(f"{name} failed: {left_out[name]}")
        else:
            outcomes += measured
            for outcome in measured:
                progress.end(f"{outcome.title}\n{table(outcome.rows)}")
    return Results(
        machine=machine,
        outcomes=outcomes,
        left_out=left_out,
        took_s=time.monotonic() - begun_s - installed_s,
        kind="full" if is_full else "short",
        contestants={contestant.name: contestant.what for contestant in contestants},
    )


def write(results: Results, folder: Path) -> list[Path]:
    """Write the tables, and the picture where matplotlib is installed; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "results.json", folder / "results.md"]
    files[0].write_text(results.as_json(), encoding="utf-8")
    files[1].write_text(results.as_markdown(), encoding="utf-8")
    try:
        files += draw(results, folder)
    except ImportError as error:
        print(f"no picture: {error}; pip install '.[bench]'", file=sys.stderr)
    return files


def publish(results: Results, files: list[Path]) -> None:
    """Put the tables into the document, below its mark, and the picture beside it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    kept = text[: text.index(MARK) + len(MARK)]
    DOCUMENT.write_text(f"{kept}\n{results.as_markdown()}", encoding="utf-8")
    for file in files:
        if file.suffix == ".svg":
            (DOCUMENT.parent / "images").mkdir(exist_ok=True)
            shutil.copyfile(file, DOCUMENT.parent / "images" / file.name)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="crowds of 100,000, and more repetitions")
    parser.add_argument("--only", nargs="+", choices=EVERY, default=list(EVERY), metavar="NAME", help=", ".join(EVERY))
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the folder of the results")
    parser.add_argument("--docs", action="store_true", help="put them into docs/benchmarks.md, too")
    options = parser.parse_args()
    progress = Progress()
    results = asyncio.run(measure(options.only, is_full=options.full, progress=progress))
    files = write(results, options.output)
    if options.docs:
        publish(results, files)
    progress.begin(f"Done in {results.took_s:.0f} s: {', '.join(map(str, files))}")


def _sentence(name: str) -> str:
    return re.sub(r"\s+", " ", (EVERY[name].__doc__ or "").partition("\n\n")[0])


if __name__ == "__main__":
    main()
