"""Slow, obvious versions of what the package computes: loops written from the papers."""
