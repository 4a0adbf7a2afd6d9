"""The emulated network: carrier, gates, brokers and certificates."""
