"""Detectors: one architecture a file, all behind one contract."""
