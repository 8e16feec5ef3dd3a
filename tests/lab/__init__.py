"""The manifests on a real Kubernetes: `make lab` runs it from an empty cluster to its end, a figure a line."""
