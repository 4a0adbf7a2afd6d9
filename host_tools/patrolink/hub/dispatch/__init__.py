"""Dispatchers: their sessions, the console and commands."""
