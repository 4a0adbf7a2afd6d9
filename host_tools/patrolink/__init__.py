"""Host tools of Patrolink: decode, monitor and emulate body-worn devices."""

from patrolink_protocol import VERSION as __version__  # noqa: N811 - the name that Python packages use

__all__ = ["__version__"]
