"""Host tools of Patrolink: decode, monitor and emulate body-worn devices."""

__version__ = "0.1.0"
