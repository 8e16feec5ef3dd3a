"""The simulation compiled by mypyc, for long runs: an option, checked against the interpreted one."""
