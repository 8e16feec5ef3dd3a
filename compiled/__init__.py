"""Compiles parts of the product by mypyc, for speed: an option for images and long simulations. Nothing imports it."""
