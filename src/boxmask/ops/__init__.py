"""Pure tensor functions: no state, no settings."""
