"""The coordinator that a cluster runs: python -m coordinator. Bots never import it."""
