"""What keeps a device from starting."""


class ConfigError(Exception):
    """CONFIG.json cannot be used; the text says why and what to mend."""
