"""Check a commit message: `area: imperative summary` in at most 72 characters, a blank line, then the body.

usage: check_commit_message.py FILE

Exit code 1 with one line for each fault.
"""

import re
import sys
from pathlib import Path

SUBJECT_MAX = 72
_SUBJECT = re.compile(r"(Revert \"|[A-Za-z0-9_./, -]+: )\S.*")
# Verb forms other than the imperative, for example "adds", "added", "adding".
_NOT_IMPERATIVE = re.compile(
    r": (adds|added|adding|fixes|fixed|fixing|changes|changed|changing|removes|removed|removing)\b"
)


def faults(message: str) -> list[str]:
    """Return the faults of a commit message as a list of sentences.

    Args:
        message: The complete message. Lines that begin with `#` are comments of git.
    """
    lines = [line for line in message.splitlines() if not line.startswith("#")]
    subject = lines[0] if lines else ""
    result = []
    if not _SUBJECT.fullmatch(subject):
        result.append(
            "the subject is not `area: summary`; write for example `modem: retry registration after +CEREG: 3`"
        )
    if len(subject) > SUBJECT_MAX:
        result.append(f"the subject has {len(subject)} characters; shorten it to {SUBJECT_MAX}")
    if subject.endswith("."):
        result.append("the subject ends with a full stop; remove it")
    if _NOT_IMPERATIVE.search(subject):
        result.append("the summary is not imperative; write `add`, not `adds` or `added`")
    if len(lines) > 1 and lines[1].strip():
        result.append("the second line is not blank; separate subject and body by a blank line")
    return result


def main(arguments: list[str]) -> int:
    """Check the message in the file that git passes; return the exit code."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    messages = faults(Path(arguments[0]).read_text(encoding="utf-8"))
    for fault in messages:
        print(f"error: commit message: {fault}", file=sys.stderr)
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
