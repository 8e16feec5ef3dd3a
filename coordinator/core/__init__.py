"""One coordinator without its edge: lease, ledger and schedule, pure; it never waits, sends, logs or reads a clock."""
