"""Sends requests as large as they may be, each of an inbox of its own: python -m tests.chaos.crowd PORT.

It is a process of its own, so that it does not slow down what measures. Each line of its standard input says what to
do: ``ask 1000`` or ``cancel 1000``, the oldest first.
"""

import json
import socket
import sys

BUCKETS = 16
REPLY_TO_BYTES = 256
NAME = "\N{GRINNING FACE}" * 32
CONTROLS = "\x01" * 128
LARGE = 2**53 - 16


def worst(number: int, **changed: str | int | bool) -> tuple[str, str, bytes]:
    """Return subject, reply subject and body of a request as large as one may be, of an inbox of its own."""
    reply_to = f"_INBOX.{number:0{REPLY_TO_BYTES - 9}d}.x"
    bucket = number % BUCKETS
    request = {
        "request_id": f"{number:064d}",
        "shard_id": LARGE - number * BUCKETS + bucket,
        "priority": -10,
        "timeout_ms": LARGE,
        "waited_ms": 1_000 + number,
        "max_concurrency": BUCKETS,
        "client": NAME,
        "source": f"{number:064d}",
        "asked_us": LARGE - number,
        **changed,
    }
    return f"identify.request.{bucket}", reply_to, json.dumps(request, ensure_ascii=False).encode()


def publish(subject: str, reply_to: str, body: bytes) -> bytes:
    """Return a message as it goes over the wire."""
    return b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), reply_to.encode(), len(body), body)


def cancel(number: int) -> bytes:
    """Return the message that withdraws a request."""
    return publish(f"identify.cancel.{number % BUCKETS}", "", b'{"request_id": "%064d"}' % number)


def main() -> None:
    """Do what each line of the standard input says, and print how many were asked or withdrawn so far."""
    asked = withdrawn = 0
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as server:
        server.sendall(b'CONNECT {"verbose":false,"headers":true,"no_responders":false}\r\n')
        for line in sys.stdin:
            what, count = line.split()
            for _ in range(int(count)):
                if what == "ask":
                    server.sendall(publish(*worst(asked)))
                    asked += 1
                else:
                    server.sendall(cancel(withdrawn))
                    withdrawn += 1
            print(asked if what == "ask" else withdrawn, flush=True)


if __name__ == "__main__":
    main()
