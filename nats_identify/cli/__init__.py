"""The commands of `nats-identify`. A bot imports none of it."""
