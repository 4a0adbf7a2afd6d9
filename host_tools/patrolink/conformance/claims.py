"""Whether claims hold for what was seen in a whole run: types that a device sent although its profile denies them."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from patrolink.conformance.evidence import Evidence
from patrolink.conformance.profile import CLAIMS, NO
from patrolink.core.text import plural


class Finding(NamedTuple):
    """A claim that is not true.

    Attributes:
        claim: The claim.
        text: What contradicts it.
    """

    claim: str
    text: str


def contradictions(claims: Mapping[str, str], evidence: Iterable[tuple[str, Evidence]]) -> list[Finding]:
    """Return the denied claims whose messages a device has sent.

    Args:
        claims: Claim → "yes" or "no".
        evidence: Pairs of case id and evidence of a run.
    """
    denied = {kind: name for name, rule in CLAIMS.items() if claims.get(name) == NO for kind in rule.types}
    seen_in: dict[tuple[str, int], list[str]] = {}
    for case_id, record in evidence:
        for answer in record.frames():
            kind = int(answer.text[:2] or "0", 16) & 31
            if kind in denied:
                seen_in.setdefault((denied[kind], kind), []).append(case_id)
    return [
        Finding(
            claim,
            f"the profile denies it, but the device sent type {kind} in {plural(len(set(ids)), 'case')}: {ids[0]}",
        )
        for (claim, kind), ids in sorted(seen_in.items())
    ]
