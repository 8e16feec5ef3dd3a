"""What `nats-identify wait` says while it waits."""

from io import StringIO

from rich.console import Console

from nats_identify.cli.wait import Report
from nats_identify.queue import Progress
from nats_identify.reason import Reason


def said(**fields):
    console = Console(file=StringIO(), width=200, record=True)
    Report(3, console).progress(Progress(**{"position": 2, "near": False, **fields}))
    return console.export_text()


def test_it_says_when_the_turn_comes():
    assert "its turn in 8.1 s\n" in said(eta_ms=8_100, reason=Reason.WINDOW)


def test_hours_are_not_said_in_seconds():
    assert "its turn in 23:38:35\n" in said(eta_ms=85_114_200, reason=Reason.SESSION_LIMIT)
