"""The error of a refused frame or message. MicroPython subset."""

import patrolink_messages as m


class RejectError(Exception):
    """A frame or its body is refused (SPEC.md, "Frame").

    Args:
        name: Name of the reason in the schema's [reject] table, for example "tag".
        detail: What was wrong, for a person; no secret.

    Attributes:
        name: As given.
        reason: The code that a `reject` message carries.
    """

    def __init__(self, name, detail=""):
        self.name = name
        self.reason = m.REASONS.split().index(name) + 1
        super().__init__(name + (": " + detail if detail else ""))
