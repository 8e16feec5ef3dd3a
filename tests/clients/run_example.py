"""Runs a bot program as it is, against a simulated gateway: ``run_example.py <package> <rest> <gateway> <program>``."""

import runpy
import signal
import sys

from nats_identify.testing.redirect import redirect

package, rest_url, gateway_url, program = sys.argv[1:]
redirect(package, rest_url=rest_url, gateway_url=gateway_url)
# A shell that runs the tests in the background makes them ignore SIGINT, and their children with them.
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_path(program, run_name="__main__")
