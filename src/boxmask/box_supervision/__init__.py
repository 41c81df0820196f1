"""Every way to learn masks from boxes; knows no architecture."""
