"""Scores: box and mask AP, and how good the masks of given boxes are."""
