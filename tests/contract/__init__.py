"""Where the simulation models something real, both are held to one contract."""
