"""Pictures and plots: masks over photos, contact sheets, curves of a run."""
