"""Errors whose cause is outside the program. Any other exception that escapes is a bug and shows its traceback."""


class UserError(Exception):
    """Tells what went wrong, why, and what to do next; the program ends with `exit_code`."""

    exit_code = 2


class DeviceError(UserError):
    """A device, emulated or real, failed."""

    exit_code = 3


class ServerError(UserError):
    """A broker or a hub cannot be reached, refuses a connection or a request, or closed the connection."""

    exit_code = 3


class DeadlineError(UserError):
    """Something did not happen in time."""

    exit_code = 4
