"""Channel between the two halves of a hub: voice, and service."""
