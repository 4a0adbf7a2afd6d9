"""Rerun the tests that failed in the parallel run one at a time, and list those that pass.

The run fails if a test fails again, or if more tests failed than FAILED_MAX.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FAILED_MAX = 3


def main() -> int:
    """Rerun the failed tests.

    Returns:
        The exit code of pytest; 1 if too many tests failed.
    """
    failed = sorted(json.loads((ROOT / "build/parallel/v/cache/lastfailed").read_text()))
    if len(failed) > FAILED_MAX:
        print(f"{len(failed)} tests failed; at most {FAILED_MAX} are rerun", file=sys.stderr)
        return 1
    print(f"rerunning one at a time: {', '.join(failed)}", file=sys.stderr)
    code = subprocess.call([sys.executable, "-m", "pytest", "-q", *failed], cwd=ROOT)
    if code == 0:
        print(f"note: failed in the parallel run, passed in the rerun: {', '.join(failed)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
