"""The contestants: each bot library or queue as its users run it, with nothing of ours but the way to start it."""
