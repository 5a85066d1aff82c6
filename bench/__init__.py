"""Measures Carepost beside a peer and beside bare limits, on one machine: `make bench`, or `QUICK=1 make bench`."""
