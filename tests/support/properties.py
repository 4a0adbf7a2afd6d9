"""Property tests that a busy machine cannot break: Hypothesis's limits of time do not apply."""

import hypothesis
from hypothesis import HealthCheck, settings

_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def untimed(*strategies, **named):
    """Return the decorator `hypothesis.given` of these strategies, without limits of time for the test."""
    decorate = hypothesis.given(*strategies, **named)
    return lambda function: _UNTIMED(decorate(function))
