"""Generators of the protocol's files, one module per target."""
