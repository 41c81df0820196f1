"""The training loop around a detector and an objective."""
