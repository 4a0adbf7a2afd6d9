"""One case for each vector of protocol/vectors: a codec decodes the frame, or refuses it for the stated reason."""

import functools
import json
from collections.abc import Callable
from typing import Any

from patrolink.conformance.case import CODEC, WRONG_ANSWER, Case, Context, Judgement, failed, passed
from patrolink.conformance.evidence import Evidence, Step, ask, canonical, tell
from patrolink.conformance.suite import ids_by_subject
from patrolink.core import resources

FRAME_FILES = ("frames.json", "messages.json", "batches.json")
_SEQUENCES = "sequences.json"
_ANSWER_KEYS = ("type", "counter", "extensions", "message")
_CLAIMS = {"BATCH-5": "rice"}  # requirement → claim that it depends on
Vector = dict[str, Any]


@functools.cache
def load(name: str) -> list[Vector]:
    """Return the vectors of a file."""
    path = resources.root() / "protocol" / "vectors" / name
    vectors: list[Vector] = json.loads(path.read_text(encoding="utf-8"))["vectors"]
    return vectors


def cases() -> list[Case]:
    """Return the cases; the id is empty for a vector that case_ids.txt does not list yet."""
    frames = [_case(v, _frame_steps(v), _frame_judge(v)) for name in FRAME_FILES for v in load(name)]
    return frames + [_case(v, _sequence_steps(v), _sequence_judge(v)) for v in load(_SEQUENCES)]


def _case(vector: Vector, steps: list[Step], judge: Callable[[Context, Evidence], Judgement]) -> Case:
    return Case(
        id=ids_by_subject().get(vector["id"], ""),
        title=vector["about"],
        requirement=vector["req"][0],
        tier=CODEC,
        steps=lambda context: steps,
        judge=judge,
        vector=vector["id"],
        also=tuple(vector["req"][1:]),
        claim=next((_CLAIMS[req] for req in vector["req"] if req in _CLAIMS), ""),
    )


def _frame_steps(vector: Vector) -> list[Step]:
    at = f"{vector['key'] or '-'} {vector['device']} {vector['direction']} {vector['epoch']}"
    return [ask(f"F {at} {vector['frame'] or '-'}")]


def _frame_judge(vector: Vector) -> Callable[[Context, Evidence], Judgement]:
    def judge(context: Context, evidence: Evidence) -> Judgement:
        got = evidence.answer(0)
        got.pop("again", None)  # optional: the decoded message, encoded by the codec
        return _compare(got, vector)

    return judge


def _compare(got: dict[str, Any], vector: Vector) -> Judgement:
    if "reject" in vector:
        reasons = vector["reject"] if isinstance(vector["reject"], list) else [vector["reject"]]
        if set(got) == {"reject"} and got["reject"] in reasons:
            return passed()
        return failed(WRONG_ANSWER, f"got {canonical(got)}, expected reject {' or '.join(reasons)}")
    expected = {key: vector[key] for key in _ANSWER_KEYS}
    if canonical(got) == canonical(expected):
        return passed()
    return failed(WRONG_ANSWER, difference(got, expected))


def difference(got: Any, expected: Any, where: str = "") -> str:
    """Return the first place where two JSON values differ, for a reason."""
    if isinstance(got, dict) and isinstance(expected, dict) and got.keys() == expected.keys():
        pairs = [(f"{where}.{key}" if where else key, got[key], expected[key]) for key in expected]
    elif isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
        pairs = [(f"{where}[{i}]", *both) for i, both in enumerate(zip(got, expected, strict=True))]
    else:
        return f"{where + ': ' if where else ''}got {canonical(got)}, expected {canonical(expected)}"
    return next(difference(a, b, name) for name, a, b in pairs if canonical(a) != canonical(b))


def _sequence_steps(vector: Vector) -> list[Step]:
    at = f"{vector['key'] or '-'} {vector['device']} {vector['direction']} {vector['epoch']}"
    return [tell(f"R {at}"), *(ask(f"S {step['frame'] or '-'}") for step in vector["steps"])]


def _sequence_judge(vector: Vector) -> Callable[[Context, Evidence], Judgement]:
    def judge(context: Context, evidence: Evidence) -> Judgement:
        for i, (got, step) in enumerate(zip(evidence.answers(), vector["steps"], strict=True), 1):
            if got.get("step") != step["expect"]:
                return failed(WRONG_ANSWER, f"step {i}: got {canonical(got)}, expected {step['expect']}")
        return passed()

    return judge
