"""The crate for twilight against real parts: `make rust`, which needs cargo and a registry of crates."""
