"""Figures about the product, measured on real parts. They are printed and plotted, never asserted."""
