"""Images of firmware: build, sign, inspect, and deltas between them (protocol/IMAGE.md)."""
