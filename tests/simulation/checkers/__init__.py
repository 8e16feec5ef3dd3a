"""What the design promises, one checker for each promise. They watch; they never take part."""
