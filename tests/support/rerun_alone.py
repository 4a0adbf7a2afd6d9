"""Runs the tests that failed beside others once more, one at a time, and names those that pass then.

A test that fails again has failed, and so has a run with more failures than the limit.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
AT_MOST = 3


def main() -> int:
    """Run the failed tests again.

    Returns:
        The exit code of pytest; 1 if too many tests failed.
    """
    failed = sorted(json.loads((ROOT / "build/side-by-side/v/cache/lastfailed").read_text()))
    if len(failed) > AT_MOST:
        print(f"{len(failed)} tests failed; at most {AT_MOST} are run again one at a time", file=sys.stderr)
        return 1
    print(f"running again, one at a time: {', '.join(failed)}", file=sys.stderr)
    code = subprocess.call([sys.executable, "-m", "pytest", "-q", *failed], cwd=ROOT)
    if code == 0:
        print(f"note: failed beside other tests, passed alone: {', '.join(failed)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
