"""Recipes: the only place where detectors and weak losses meet."""
