"""Runs a bot program as it is, against a simulated gateway: ``run_example.py <package> <rest> <gateway> <program>``."""

import runpy
import signal
import sys
from importlib import import_module
from typing import Any

from nats_identify.testing.redirect import redirect

package, rest_url, gateway_url, program = sys.argv[1:]
redirect(package, rest_url=rest_url, gateway_url=gateway_url)
if package == "hikari":
    bot: Any = import_module("hikari.impl.gateway_bot").GatewayBot
    library_join = bot.join

    async def join(self: Any) -> None:
        """Say that `start` has returned: ctrl-C in that very step of the loop stops the library's `close`, too."""
        sys.stdout.write("the bot runs\n")
        sys.stdout.flush()
        await library_join(self)

    bot.join = join
# A shell that runs the tests in the background makes them ignore SIGINT, and their children with them.
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_path(program, run_name="__main__")
