"""What a key means now: one question is open at most, and a command follows a yes alone. It sends nothing."""

from dataclasses import dataclass
from typing import Final

from nats_identify.operator_wire import Command
from nats_identify.queue import SHARD_ID_MAX

KEYS: Final = "p pause or resume   k kick a shard   q quit"
DIGITS_MAX: Final = len(str(SHARD_ID_MAX))
_ENTER: Final = ("\r", "\n")
_BACK: Final = ("\x7f", "\b")
_CANCEL: Final = "\x1b"


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave the screen."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """Look the requests of a shard up, and then call `Dialog.found`."""

    shard_id: int


@dataclass(frozen=True, slots=True)
class Do:
    """Have the leader do it; ``request_ids`` of a kick."""

    command: Command
    request_ids: tuple[str, ...] = ()


Act = Quit | LookUp | Do


class Dialog:
    """The question that is open, and what was typed.

    Attributes:
        message: what became of the last command, until the next key.
    """

    def __init__(self) -> None:
        self.message = ""
        self._question = ""
        self._typed: str | None = None
        self._on_yes: Do | None = None

    @property
    def line(self) -> str:
        """The last line of the screen."""
        if self._typed is not None:
            return f"{self._question} {self._typed}▏  (Enter goes on, Esc leaves it)"
        if self._on_yes is not None:
            return f"{self._question} [y/N]"
        return self.message or KEYS

    @property
    def is_open(self) -> bool:
        """Whether a question waits for an answer."""
        return self._typed is not None or self._on_yes is not None

    def press(self, key: str, *, is_paused: bool) -> Act | None:
        """Return what is to be done after this key."""
        self.message = ""
        if self._typed is not None:
            return self._type(key)
        if self._on_yes is not None:
            act, self._on_yes = self._on_yes, None
            if key.lower() == "y":
                return act
            self.message = "nothing was done"
            return None
        match key.lower():
            case "q":
                return Quit()
            case "p" if is_paused:
                self._ask("Resume: grant turns again?", Do(Command.RESUME))
            case "p":
                self._ask("Pause: grant no turn until resume?", Do(Command.PAUSE))
            case "k":
                self._question, self._typed = "Kick the requests of shard:", ""
        return None

    def found(self, shard_id: int, described: list[str], request_ids: tuple[str, ...], *, left_out: int = 0) -> None:
        """Ask about the requests that were found, or say that there are none; ``left_out`` more were not found."""
        if not request_ids:
            self.message = f"shard {shard_id} has no waiting request"
            return
        count = len(request_ids)
        if left_out:
            what = f"{count} of the {count + left_out} requests of shard {shard_id}"
        else:
            what = described[0] if count == 1 else f"all {count} requests of shard {shard_id}"
        self._ask(f"Kick {what}?", Do(Command.KICK, request_ids))

    def _ask(self, question: str, act: Do) -> None:
        self._question, self._on_yes = question, act

    def _type(self, key: str) -> Act | None:
        typed = self._typed or ""
        if key in _ENTER and typed:
            self._typed = None
            self.message = f"looks shard {typed} up …"
            return LookUp(min(int(typed), SHARD_ID_MAX))
        if key == _CANCEL or key in _ENTER:
            self._typed = None
        elif key in _BACK:
            self._typed = typed[:-1]
        elif key.isascii() and key.isdigit() and len(typed) < DIGITS_MAX:
            self._typed = typed + key
        return None
