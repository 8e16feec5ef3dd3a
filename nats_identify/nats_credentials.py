"""Reads the files that let a client into NATS: credentials, a seed, certificates. No error repeats their content."""

import ssl
from collections import UserString
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Final

FILE_BYTES_MAX: Final = 65_536
"""The most that is read of a credentials file; a real one has two kilobytes."""


def read_credentials(source: str | UserString | Path) -> tuple[bytes, bytes]:
    """Return the JWT and the seed of a credentials file; a `UserString` is its content.

    Raises:
        ValueError: it cannot be read, or lacks one of them; the message repeats nothing of it.
    """
    lines = [line.strip() for line in _content(source).splitlines()]
    token = _line_after(lines, b"BEGIN NATS USER JWT")
    if token.count(b".") != 2:  # noqa: PLR2004  # header, claims, signature
        message = "holds no user JWT; give a credentials file of a NATS user"
        raise ValueError(message)
    return token, _checked_seed(_line_after(lines, b"BEGIN USER NKEY SEED"))


def read_seed(source: str | Path) -> bytes:
    """Return the seed in a file.

    Raises:
        ValueError: it cannot be read, or holds none; the message repeats nothing of it.
    """
    return _checked_seed(_content(source).strip())


def make_tls_context(authority: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """Return the context of these PEM files, or None where none is named.

    Raises:
        ValueError: they cannot be used; the message begins with the variable that is wrong.
    """
    if bool(certificate) != bool(key):
        one, other = ("NATS_TLS_CERT", "NATS_TLS_KEY") if certificate else ("NATS_TLS_KEY", "NATS_TLS_CERT")
        message = f"{one}: is set without {other}; set both or neither"
        raise ValueError(message)
    if not authority and not certificate:
        return None
    try:
        context = ssl.create_default_context(cafile=authority or None)
    except (OSError, ssl.SSLError):
        message = "NATS_TLS_CA: holds no certificate; give a readable PEM file"
        raise ValueError(message) from None
    if certificate:
        try:
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ssl.SSLError):
            message = "NATS_TLS_CERT: does not fit NATS_TLS_KEY; give PEM files without a passphrase"
            raise ValueError(message) from None
    return context


def _content(source: str | UserString | Path) -> bytes:
    if isinstance(source, UserString):
        return str(source).encode()
    try:
        if not Path(source).is_file():  # a pipe could be read only once, and waits
            message = "is no file; give a readable file"
            raise ValueError(message)
        with Path(source).open("rb") as file:
            return file.read(FILE_BYTES_MAX)
    except OSError:
        message = "cannot be read; give a readable file"
        raise ValueError(message) from None


def _line_after(lines: Sequence[bytes], mark: bytes) -> bytes:
    for line, following in pairwise(lines):
        if mark in line:
            return following
    return b""


def _checked_seed(seed: bytes) -> bytes:
    if find_spec("nkeys") is None:
        message = "needs the package nkeys: pip install 'nats-py[nkeys]'"
        raise ValueError(message)
    import nkeys  # noqa: PLC0415  # optional

    message = "holds no seed of a user, which begins with SU; give the file that `nsc` or `nk` made"
    if not seed.startswith(b"SU"):
        raise ValueError(message)
    try:
        nkeys.from_seed(bytearray(seed)).wipe()
    except Exception:  # of several libraries; the text of some holds a part of the seed
        raise ValueError(message) from None
    return seed
