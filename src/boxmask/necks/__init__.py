"""Necks: they join the maps of a backbone into a pyramid."""
