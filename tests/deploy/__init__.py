"""The manifests without a cluster: rendered, held against schemas and rules, and their NATS configuration run."""
