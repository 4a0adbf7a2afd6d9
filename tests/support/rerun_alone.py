"""Run again, alone, what failed beside other tests: a machine too slow for six at once is no defect of the code.

What fails alone, too, has failed; so have more than a few at once. What passes now is named: it wants mending.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
AT_MOST = 3


def main() -> int:
    """Return pytest's exit code, 1 when there were too many to be a matter of the machine's speed."""
    failed = sorted(json.loads((ROOT / "build/side-by-side/v/cache/lastfailed").read_text()))
    if len(failed) > AT_MOST:
        print(f"{len(failed)} tests failed; up to {AT_MOST} would have been run again by themselves", file=sys.stderr)
        return 1
    print(f"once more, alone: {', '.join(failed)}", file=sys.stderr)
    code = subprocess.call([sys.executable, "-m", "pytest", "-q", *failed], cwd=ROOT)
    if code == 0:
        print(f"note: failed beside other tests, passed alone: {', '.join(failed)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
