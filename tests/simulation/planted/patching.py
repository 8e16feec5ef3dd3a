"""Changes the text of a function of the product, for a while, in this process alone. It knows no fault."""

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any
from unittest.mock import patch


class StaleEditError(Exception):
    """The product has changed, and the planted fault no longer fits: give it a new place."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change: in the function ``where`` (``module:Class.function``), ``old`` becomes ``new``."""

    where: str
    old: str
    new: str


@contextmanager
def planted(*edits: Edit) -> Iterator[None]:
    """Run with these changes in place.

    Raises:
        StaleEditError: a text to be changed is not there, or is there more than once.
    """
    with ExitStack() as stack:
        for edit in edits:
            stack.enter_context(_planted(edit))
        yield


@contextmanager
def _planted(edit: Edit) -> Iterator[None]:
    module_name, _, path = edit.where.partition(":")
    owner: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    try:
        for part in outer:
            owner = getattr(owner, part)
        original = inspect.getattr_static(owner, name)
    except AttributeError as error:
        raise StaleEditError(str(error)) from error
    changed = _changed(original, edit)
    with ExitStack() as stack:
        stack.enter_context(patch.object(owner, name, changed))
        if not outer:  # whoever imported the function by name holds it too
            for holder in [m for n, m in sys.modules.items() if n.startswith(("nats_identify", "coordinator"))]:
                if getattr(holder, name, None) is original:
                    stack.enter_context(patch.object(holder, name, changed))
        yield


def _changed(original: object, edit: Edit) -> object:
    wrapper: Any = type(original) if isinstance(original, property | staticmethod | classmethod) else None
    function: Any = original
    if isinstance(original, property):
        function = original.fget
    elif isinstance(original, staticmethod | classmethod):
        function = original.__func__
    assert isinstance(function, FunctionType)
    text = _plain(textwrap.dedent(inspect.getsource(function)))
    old, new = edit.old, edit.new
    if text.count(old) != 1:
        message = f"{edit.where}: {text.count(old)} times {old!r} in\n{text}"
        raise StaleEditError(message)
    namespace: dict[str, Any] = {}
    exec(compile(text.replace(old, new), f"<planted {edit.where}>", "exec"), function.__globals__, namespace)  # noqa: S102  # our own text
    made = namespace[function.__name__]
    made.__qualname__ = function.__qualname__
    return made if wrapper is None else wrapper(made)


def _plain(text: str) -> str:
    """Without the decorators, which the wrapper stands for."""
    lines = text.splitlines(keepends=True)
    first = next(index for index, line in enumerate(lines) if line.startswith(("def ", "async def ")))
    return "".join(lines[first:])
