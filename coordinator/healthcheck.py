"""Asks /livez of the coordinator beside it, for images without curl. The standard library alone: it must be quick."""

import os
from http import HTTPStatus
from urllib.error import URLError
from urllib.request import urlopen

ANSWER_WITHIN_S = 3.0

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # what listens everywhere is asked here


def check() -> int:
    """Return 0 where the coordinator lives, else 1."""
    host = os.environ.get("IDENTIFY_HTTP_HOST") or "127.0.0.1"
    port = os.environ.get("IDENTIFY_HTTP_PORT") or "8080"
    host = _ANYWHERE.get(host, host)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/livez"
    try:
        with urlopen(address, timeout=ANSWER_WITHIN_S) as answer:
            return 0 if answer.status == HTTPStatus.OK else 1
    except (URLError, OSError, ValueError):
        return 1
