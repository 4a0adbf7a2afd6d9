"""Types of command-line arguments that several verbs share."""

import argparse
import math


def non_negative_seconds(text: str) -> float:
    """Return a duration in seconds. Raises ArgumentTypeError below 0 or if it is not finite."""
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"{text}: must be 0 or more seconds")
    return value


def positive_count(text: str) -> int:
    """Return a number of things. Raises ArgumentTypeError below 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be 1 or more")
    return value
