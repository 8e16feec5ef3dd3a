"""The day's limit, measured: whole fleets in virtual time over the real schedule, and real processes beside them."""
