"""The published rules that tests need; they live with the benchmark that compares them all."""

from boxmask.benchmark.published_forms import valid_neighbors

__all__ = ["valid_neighbors"]
