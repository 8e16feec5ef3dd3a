"""Sends one kind of flood over a bare socket: python -m tests.chaos.flooder PORT KIND SECONDS [MESSAGES_A_SECOND].

It is a process of its own, so that it does not slow down what measures. It prints a line when it begins, and in the end
how many messages it sent.
"""

import json
import socket
import sys
import time
from collections.abc import Iterator

CHUNK_BYTES = 65_536


def publish(subject: str, body: bytes, header: bytes = b"") -> bytes:
    """Return one message for a bucket, as it goes over the wire; its reply goes where no listener is."""
    if header:
        return b"HPUB %s _INBOX.flood.x %d %d\r\n%s%s\r\n" % (
            subject.encode(),
            len(header),
            len(header) + len(body),
            header,
            body,
        )
    return b"PUB %s _INBOX.flood.x %d\r\n%s\r\n" % (subject.encode(), len(body), body)


def kinds() -> dict[str, bytes]:
    """Return one message of each kind."""
    wrong = json.dumps({"shard_id": 1, "request_id": "a", "managed": True, "max_concurrency": 3}).encode()
    header = b"NATS/1.0\r\nX: " + b"x" * 900_000 + b"\r\n\r\n"
    return {
        "brackets": publish("identify.request.0", b"{"),
        "refused": publish("identify.request.0", wrong),
        "headers": publish("identify.request.0", b"{}", header),
        "bodies": publish("identify.request.0", b"{" * 1_000_000),
        "confirms": publish("identify.confirm.0.x", b"{"),
        "cancels": publish("identify.cancel.0", b"{"),
    }


RATES = {
    "brackets": 84_000,
    "confirms": 84_000,
    "cancels": 84_000,
    "refused": 25_000,
    "headers": 8,
    "bodies": 8,
}
"""Messages a second of a flood that can be read: in eight seconds 674,000 small ones, 200,000 that are refused or 64 of
a megabyte."""


def chunks(message: bytes, rate: float | None) -> Iterator[bytes]:
    """Return the same chunk again and again, each when it is due."""
    chunk = message * max(1, CHUNK_BYTES // len(message) if rate is None else round(rate / 100))
    due_s = time.monotonic()
    while True:
        yield chunk
        if rate is not None:
            due_s += len(chunk) / len(message) / rate
            time.sleep(max(0.0, due_s - time.monotonic()))  # the pace of the flood


def main() -> None:
    """Flood for the seconds of the command line."""
    port, kind, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    rate = float(sys.argv[4]) if len(sys.argv) > 4 else None
    message, sent_bytes = kinds()[kind], 0
    with socket.create_connection(("127.0.0.1", port)) as server:
        server.sendall(b'CONNECT {"verbose":false,"headers":true,"no_responders":false}\r\n')
        print("flooding", flush=True)
        until = time.monotonic() + seconds
        for chunk in chunks(message, rate):
            if time.monotonic() > until:
                break
            server.sendall(chunk)
            sent_bytes += len(chunk)
    print(sent_bytes // len(message))


if __name__ == "__main__":
    main()
