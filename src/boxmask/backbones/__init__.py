"""Backbones: images in, a list of maps out."""
