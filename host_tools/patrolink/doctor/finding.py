"""Results of checks."""

from typing import NamedTuple

OK, WARNING, PROBLEM = "ok", "warning", "problem"
LEVELS = (OK, WARNING, PROBLEM)


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        level: OK; WARNING: something optional does not work; PROBLEM: something required does not work.
        check: Short name of what was checked.
        text: What was found.
        fix: What to do, with the command; empty if nothing is to be done.
    """

    level: str
    check: str
    text: str
    fix: str = ""

    def line(self) -> str:
        """Return the finding in one line."""
        return f"{self.check}: {self.text}" + (f"; {self.fix}" if self.fix else "")
