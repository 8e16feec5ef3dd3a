"""A bot for the tests of shutting down: it waits for a turn, closes its queue at SIGTERM, and says how long it took.

Where NATS is stands in the environment. Arguments: ``asyncio`` or ``uvloop``, and ``own`` or
``borrowed`` for the connection.
"""

import asyncio
import contextlib
import os
import signal
import sys
from time import monotonic

import nats

from nats_identify import NatsQueue, QueueClosedError
from nats_identify.client.environment import nats_options, queue_from_environment


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def ignore(_error):
    """Say nothing: what matters is what reaches the bot."""


async def main(kind):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connection = None
    if kind == "borrowed":
        options = nats_options()
        servers = list(options.addresses.servers)
        connection = await nats.connect(
            servers, **options.settings, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=ignore
        )
    queue = queue_from_environment() if connection is None else NatsQueue(connection)

    async def wait_for_a_turn():
        async with queue.turn(0, on_progress=lambda _progress: say("asked")):
            say("granted")

    assert isinstance(queue, NatsQueue)
    await queue
    waiting = asyncio.create_task(wait_for_a_turn())
    say("waiting")
    await stop.wait()
    began = monotonic()
    await queue.close()
    with contextlib.suppress(QueueClosedError):
        await waiting
    say(f"closed after {monotonic() - began:.2f} s")
    if connection is not None:
        os._exit(
            0
        )  # before Python 3.12 nats-py's own tasks may run_while_alive their cancellation; that is not judged here


def run(loop, kind):
    factory = None
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415  # one of the two

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(kind))


if __name__ == "__main__":
    run(*sys.argv[1:])
