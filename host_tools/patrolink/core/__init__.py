"""Shared by all host tools: captures, decoder, keys, tracks, boards, resources, signals and errors."""
