"""What a type checker says of the library to its users. `make lint` checks it; nothing here is run."""
