"""Faults planted into the product, to see that the simulation bites. The product itself is never written to."""
