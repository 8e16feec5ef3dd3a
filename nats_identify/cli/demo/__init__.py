"""The demo: one fleet with the queue and one without, on real processes; nothing a bot needs is in here."""
