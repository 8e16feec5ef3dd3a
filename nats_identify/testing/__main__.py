"""Runs the simulated gateway as a process until SIGTERM or SIGINT; it adds no behaviour of its own.

The first line on stdout is JSON: ``rest_url``, ``ws_url``, ``report_url``, ``events_url``, ``orders_url``.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence

from nats_identify.testing.delays import Range
from nats_identify.testing.doors import DoorState
from nats_identify.testing.gateway import HEARTBEAT_INTERVAL_S, SimulatedGateway


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; argparse ends the process, with a message, if it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m nats_identify.testing",
        description="A simulated Discord gateway that judges IDENTIFYs strictly.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--max-concurrency", type=int, default=1, help="IDENTIFYs per window")
    parser.add_argument("--total", type=int, default=1000, help="IDENTIFYs per day")
    parser.add_argument("--remaining", type=int, help="how many of them are left (default: all)")
    parser.add_argument("--reset-after-s", type=float, default=86_400, help="how long a day lasts")
    parser.add_argument("--shards", type=int, default=1, help="the shard count that it recommends")
    parser.add_argument("--window-s", type=float, default=5.0, help="how far apart one bucket's must be")
    for delay, what in (
        ("connect-delay", "before a websocket is accepted"),
        ("hello-delay", "between that and HELLO"),
        ("frame-latency", "one way, of every frame"),
        ("ready-delay", "between IDENTIFY and READY"),
    ):
        parser.add_argument(f"--{delay}-ms", type=_range_s, default="0", metavar="LOW[:HIGH]", help=what)
    parser.add_argument("--heartbeat-interval-s", type=float, default=HEARTBEAT_INTERVAL_S, help="for HELLO")
    parser.add_argument("--guilds-per-shard", type=int, default=0, help="guilds announced by READY")
    host_states = [state.value for state in DoorState]
    parser.add_argument("--resume-host", choices=host_states, help="READY names a host of its own for RESUME")
    parser.add_argument("--seed", type=int, default=0, help="of the delays")
    parser.add_argument("--token-env", help="the environment variable with the only token to let in")
    return parser.parse_args(arguments)


def make_gateway(options: argparse.Namespace) -> SimulatedGateway:
    """Return the gateway that these arguments describe.

    Raises:
        ValueError: a figure that Discord would never send, or a delay that cannot be.
        KeyError: the environment has no such variable.
    """
    return SimulatedGateway(
        options.max_concurrency,
        options.total,
        remaining=options.remaining,
        reset_after_s=options.reset_after_s,
        shards=options.shards,
        window_s=options.window_s,
        connect_delay_s=options.connect_delay_ms,
        hello_delay_s=options.hello_delay_ms,
        frame_latency_s=options.frame_latency_ms,
        ready_delay_s=options.ready_delay_ms,
        heartbeat_interval_s=options.heartbeat_interval_s,
        guilds_per_shard=options.guilds_per_shard,
        resume_host=options.resume_host,
        seed=options.seed,
        token=None if options.token_env is None else os.environ[options.token_env],
        host=options.host,
        port=options.port,
    )


async def serve(gateway: SimulatedGateway) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    async with gateway:
        urls = {
            "rest_url": gateway.rest_url,
            "ws_url": gateway.ws_url,
            "report_url": f"{gateway.http_url}/report",
            "events_url": f"{gateway.http_url}/events",
            "orders_url": f"{gateway.http_url}/orders",
        }
        sys.stdout.write(json.dumps(urls) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> int:
    """Return the exit status: 0 after a signal, 2 for arguments that cannot be."""
    try:
        gateway = make_gateway(parse_arguments(sys.argv[1:]))
    except KeyError as missing:
        sys.stderr.write(f"--token-env: the environment has no variable {missing}; set it\n")
        return 2
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    asyncio.run(serve(gateway))
    return 0


def _range_s(text: str) -> Range:
    """Read ``20:60`` or ``40``, milliseconds, as seconds."""
    low_ms, _, high_ms = text.partition(":")
    return float(low_ms) / 1000, float(high_ms or low_ms) / 1000


if __name__ == "__main__":
    sys.exit(main())
