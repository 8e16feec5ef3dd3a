"""Bot libraries that wait for their turns: one module for each, which changes nothing until a bot names it."""
