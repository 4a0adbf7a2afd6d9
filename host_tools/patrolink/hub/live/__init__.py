"""Live view at the hub."""
