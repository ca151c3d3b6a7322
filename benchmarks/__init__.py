"""Benchmarks of protosocket against its peers: `python -m benchmarks --help`."""
