"""What went wrong outside the program. Anything else that escapes is a bug and shows its traceback."""


class UserError(Exception):
    """Says what, why and what to do next; ends the program with `exit_code`."""

    exit_code = 2


class DeviceError(UserError):
    """A device, emulated or real, does not do its part."""

    exit_code = 3


class DeadlineError(UserError):
    """Something did not happen in time."""

    exit_code = 4
