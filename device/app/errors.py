"""Errors that keep a device from starting."""


class ConfigError(Exception):
    """The configuration cannot be used; the text says why and what to change."""
