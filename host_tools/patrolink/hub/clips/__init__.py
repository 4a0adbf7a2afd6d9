"""Clips at the hub: uploads, verdicts and access."""
