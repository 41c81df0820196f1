"""Benchmarks: the same tables each time, with machine and commit."""
