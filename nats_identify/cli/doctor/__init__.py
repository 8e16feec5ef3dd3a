"""The checks of `nats-identify doctor`. What they send changes nothing, in NATS, in the queue or at Discord."""
