"""Every order of a few events in a tiny cluster: two replicas, two shards, one bucket. Chance plays no part."""
