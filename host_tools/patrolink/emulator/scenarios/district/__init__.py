"""District simulation: many devices, the real hub, its broker and its dispatchers on one virtual clock."""
