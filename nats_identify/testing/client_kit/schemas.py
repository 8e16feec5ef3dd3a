"""Writes the files of `nats_identify.schemas`, as a program. It makes none of them itself.

``python -m nats_identify.testing.client_kit.schemas docs/schemas`` writes all files into that folder.
"""

import sys
from pathlib import Path

from nats_identify.schemas import MESSAGES, schema_of, text_of

__all__ = ["MESSAGES", "main", "schema_of", "text_of"]


def main(folder: Path) -> None:
    """Write all files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MESSAGES:
        (folder / f"{name}.json").write_text(text_of(name), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
