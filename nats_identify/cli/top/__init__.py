"""The live screen of `nats-identify top`. It changes the queue only by a key and a question."""
