"""Whole clusters in virtual time: one seed, one history, bit for bit. It opens no socket and never waits."""
