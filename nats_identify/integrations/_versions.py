"""Refuses a bot library that an integration was not made for, and says what to install; it installs nothing."""

import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version


class WrongLibraryError(ImportError):
    """The library that an integration needs is missing, another one has its place, or it is another version."""


def require(
    distribution: str, *, at_least: tuple[int, int], below: tuple[int, int], extra: str, rivals: Sequence[str] = ()
) -> None:
    """Return if the library is there, in a version from ``at_least`` up to, not including, ``below``.

    The integrations use parts that the libraries do not document. An untested version could
    send IDENTIFY past the queue, so it is refused here rather than found out at Discord.

    Args:
        distribution: the library's name for pip.
        at_least: the first major and minor version that was tried.
        below: the first that was not.
        extra: ours, which installs it.
        rivals: other libraries that install a package of the same name.

    Raises:
        WrongLibraryError: it is not.
    """
    wanted = f"{distribution}>={_text(at_least)},<{_text(below)}"
    cure = f"in a clone of nats-identify: pip install '.[{extra}]'"
    found = _installed(distribution)
    for rival in rivals:
        if _installed(rival) is not None:
            message = (
                f"{rival} is installed, and takes the same package name as {distribution}: "
                f"keep one of them (pip uninstall {rival} {distribution}; {cure}), or import the other's integration"
            )
            raise WrongLibraryError(message)
    if found is None:
        message = f"{distribution} is not installed; {cure}"
        raise WrongLibraryError(message)
    if not at_least <= _major_minor(found) < below:
        message = f"this integration was tried with {wanted}, and {distribution} {found} is installed; {cure}"
        raise WrongLibraryError(message)


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _major_minor(text: str) -> tuple[int, int]:
    numbers = [int(number) for number in re.findall(r"\d+", text)[:2]]
    return (numbers[0], numbers[1]) if len(numbers) > 1 else (0, 0)


def _text(pair: tuple[int, int]) -> str:
    return f"{pair[0]}.{pair[1]}"
