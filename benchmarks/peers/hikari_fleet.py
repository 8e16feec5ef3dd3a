"""A process of a bot made of hikari as it comes. It takes the arguments of `nats_identify.cli.demo.fleet`.

It runs in an environment of hikari alone, so that nothing of ours is imported.
"""

import argparse
import os

import hikari


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--shard-ids", required=True)
    parser.add_argument("--shard-count", required=True, type=int)
    parser.add_argument("--api-url", required=True)
    options, _ = parser.parse_known_args()
    bot = hikari.GatewayBot(
        os.environ["DISCORD_TOKEN"],
        rest_url=options.api_url,
        banner=None,
        intents=hikari.Intents.NONE,
        suppress_optimization_warning=True,
    )
    shard_ids = [int(number) for number in options.shard_ids.split(",")]
    bot.run(shard_ids=shard_ids, shard_count=options.shard_count, check_for_updates=False)


if __name__ == "__main__":
    main()
