"""Child processes: a nats-server, a local cluster of one coordinator. A bot needs none of it."""
