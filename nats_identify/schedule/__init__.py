"""The release schedule: pure, integer nanoseconds in, actions out; it never waits, sends, logs or reads a clock."""
