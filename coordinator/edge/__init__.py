"""The edge: NATS, Discord, HTTP and logs, translated to and from the pure core. It decides nothing."""
