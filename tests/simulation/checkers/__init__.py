"""What the queue promises, one checker for each promise. They watch; they never take part."""
