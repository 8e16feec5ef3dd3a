"""Requests /livez of the coordinator in this pod, for images without curl. Standard library only: it must be fast."""

import os
from http import HTTPStatus
from http.client import HTTPException
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

ANSWER_WITHIN_S = 3.0

_ANYWHERE = {"0.0.0.0": ("127.0.0.1",), "::": ("::1", "127.0.0.1")}  # noqa: S104  # an address that means all of them is reached here


def check() -> int:
    """Return 0 where the coordinator lives, else 1."""
    host = (os.environ.get("IDENTIFY_HTTP_HOST") or "127.0.0.1").strip().removeprefix("[").removesuffix("]")
    port = os.environ.get("IDENTIFY_HTTP_PORT") or "8080"
    return 0 if any(_lives(one, port) for one in _ANYWHERE.get(host, (host,))) else 1


def _lives(host: str, port: str) -> bool:
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/livez"
    # A proxy of the environment is for Discord: it cannot reach this process.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(address, timeout=ANSWER_WITHIN_S) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except (URLError, HTTPException, OSError, ValueError):
        return False
