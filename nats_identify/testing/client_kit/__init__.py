"""Certifies a client in any language: it plays a coordinator over a real nats-server, and judges what the client does.

It needs a nats-server, as the extra ``server`` brings it, or the address of one; it has no schedule and grants nothing
that a shard may use at Discord. docs/protocol.md says how to run it, and what the client has to print.
"""
