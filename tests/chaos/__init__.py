"""Real processes, killed and restarted while shards wait; judged by what the simulated Discord saw."""
