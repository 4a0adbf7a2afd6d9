"""Cases of the codec tier: requirements, and agreement of expectations with the reference codec."""

from collections import Counter

import pytest
from patrolink.conformance import explain, frames, reference, reference_session, suite
from patrolink.conformance.case import CODEC, Context, Verdict, judge
from patrolink.conformance.cases import batches, bodies, vectors
from patrolink.conformance.evidence import ASK, Answer, Evidence, Exchange, Fault, canonical
from patrolink.conformance.report.document import requirements
from patrolink.conformance.runner import Runner
from patrolink.conformance.testee.testee import Ending
from patrolink_protocol.frame import Channel

CHANNEL = Channel(frames.SECRET, frames.DEVICE.encode(), 0, 0)
# Requirements that only a whole device shows: see the device tier.
BEHAVIOUR = ("TIMER", "CLAIM")


def codec_cases():
    return [case for case in suite.load() if case.tier == CODEC]


def test_every_requirement_of_the_schema_has_a_case_of_the_codec_tier():
    tested = {case.requirement for case in codec_cases()}
    assert {name for name in requirements() if not name.startswith(BEHAVIOUR)} - tested == set()


def test_every_case_names_a_requirement_of_the_schema():
    wrong = [case.id for case in codec_cases() if case.requirement not in requirements()]
    assert [case_id for case_id in wrong if not case_id.startswith("PL-CLAIM-")] == []


def test_titles_are_unique_and_sections_exist():
    titles = Counter(case.vector or case.title for case in codec_cases())
    assert [title for title, n in titles.items() if n > 1] == []


def recorded(case, answer):
    """Return evidence in which each request got the answer of a function."""
    exchanges = []
    script = case.steps(Context(case, 1))
    for step in script:
        answers = (Answer(0, canonical(answer(step.data))),) if step.op == ASK else ()
        exchanges.append(Exchange(step, 0, answers))
    return Evidence(tuple(exchanges))


def session_cases():
    """Return the cases whose requests the reference session can answer: F, R and S."""
    return [case for case in codec_cases() if all(step.data[0] in "FRS" for step in case.steps(Context(case, 1)))]


def evidence_of_the_reference(case):
    session = reference_session.ReferenceSession()
    exchanges = []
    for step in case.steps(Context(case, 1)):
        answer = session.answer(step.data)
        exchanges.append(Exchange(step, 0, (Answer(0, canonical(answer)),) if step.op == ASK else ()))
    return Evidence(tuple(exchanges))


def test_the_reference_codec_passes_every_case():
    failed = [
        case.id
        for case in session_cases()
        if judge(Context(case, 1), evidence_of_the_reference(case)).verdict != "pass"
    ]
    assert len(session_cases()) > 600 and failed == []


@pytest.mark.parametrize("answer", [{"reject": "critical"}, {"reject": "version"}, {"step": "accepted"}, {}], ids=str)
def test_hardly_any_case_passes_a_codec_that_always_answers_the_same(answer):
    evidence = {case: recorded(case, lambda _: answer) for case in session_cases()}
    passing = [case.id for case, record in evidence.items() if judge(Context(case, 1), record).verdict == "pass"]
    assert len(passing) < len(evidence) / 20, passing


ODD_ANSWERS = [
    {},
    {"frame": 5}, {"frame": "zz"}, {"frame": ""}, {"frame": None}, {"frame": "20" * 2000},
    {"frames": 5, "invalid": "x"}, {"frames": [5], "invalid": 0}, {"frames": None}, {"frames": ["zz"], "invalid": 0},
    {"packet": None}, {"packet": "zz"}, {"reject": 5}, {"reject": []}, {"reject": "\ud800"},
    {"step": []}, {"step": {}}, {"step": None}, {"type": "x"}, {"protocol": 5}, {"protocol": "1.0", "rice": "yes"},
    {"message": []}, {"message": None}, {"error": 5},
    {"type": 1, "counter": 1, "extensions": [], "message": {"rows": 5}},
    {"type": 2, "counter": 1, "extensions": 5, "message": {"message": "position_batch", "rows": [[1]]}},
    {"type": 2, "counter": 1, "extensions": [], "message": {"message": "position_batch", "resolution": 6, "rows": [5]}},
]  # fmt: skip


@pytest.mark.parametrize("answer", ODD_ANSWERS, ids=canonical)
def test_answers_with_odd_parts_get_a_verdict(answer):
    """Whatever JSON object a testee answers, in every case: a verdict, and never an exception of the kit."""

    class Echo:
        tier, clock = CODEC, "monotonic"
        start = begin = settle = lambda self: None
        stop = staticmethod(Ending)
        now_ms = staticmethod(lambda: 0)
        perform = staticmethod(lambda step: (Answer(0, canonical(answer)),) if step.op == ASK else ())

    results = list(Runner(Echo(), 1, lambda: 0, 1000).run(codec_cases()))
    passing = [result.case.id for result in results if result.judgement.verdict is Verdict.PASS]
    assert len(results) == len(codec_cases()) and len(passing) < len(results) / 20


def test_a_fault_fails_every_case():
    evidence = Evidence((), Fault("hang", "no answer"))
    assert {judge(Context(case, 1), evidence).verdict for case in codec_cases()} == {Verdict.FAIL}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_cases_depend_on_the_seed_only(seed):
    for case in codec_cases():
        first, second = (list(case.steps(Context(case, seed))) for _ in range(2))
        assert first == second, case.id


def test_frames_of_the_kit_are_those_of_the_vectors():
    for vector in vectors.load("messages.json"):
        if "reject" in vector or vector["id"].endswith("-later"):
            continue
        kind = vector["type"]
        body = bodies.pack(kind, vector["message"])
        flags = bytes.fromhex(vector["frame"])[1] >> 4 & ~frames.PHASE
        sealed = frames.seal(
            kind, body, vector["counter"], vector["direction"], vector["epoch"], vector["device"], flags=flags
        )
        assert sealed.hex() == vector["frame"], vector["id"]


def test_explanation_of_a_batch_names_the_bit_of_the_first_other_value():
    body = batches.stream(3, sats=batches.Column(10, "fixed", [1, -1], width=5)).body()
    right = {"message": reference.batch(body)}
    wrong = {"message": {**right["message"], "rows": [list(row) for row in right["message"]["rows"]]}}
    wrong["message"]["rows"][2][8] = 77
    text = explain.explain(2, body, right, wrong)
    codes, stop = explain.codes_of_batch(body)
    (code,) = (code for code in codes if code.column == "sats" and code.row == 2)
    assert stop == "" and text == f"bit {code.bit}, `00001`: sats: difference -1 (row 2)"
    wrong["message"]["rows"][0][3] = 2
    assert "state: keyframe" in explain.explain(2, body, right, wrong)


@pytest.mark.parametrize("vector", vectors.load("batches.json"), ids=lambda vector: vector["id"])
def test_explanation_reads_every_batch_of_the_vectors(vector):
    data = bytes.fromhex(vector["frame"])
    body, _ = CHANNEL.read(data)
    codes, stop = explain.codes_of_batch(bytes(body))
    assert [code.bit for code in codes] == sorted(code.bit for code in codes)
    if "reject" not in vector:
        assert stop == "" and "".join(code.bits for code in codes) == "".join(f"{byte:08b}" for byte in body)
        n = len(vector["message"]["rows"])
        columns = {code.column for code in codes if code.column}
        for column in columns:
            rows = sorted(code.row for code in codes if code.column == column and code.row >= 0)
            assert rows == list(range(1 if column == "time" else 0, n)), column


def test_explanation_of_a_message_names_the_byte():
    message = bodies.baselines()[9]
    body = bodies.pack(9, message)
    right, wrong = {"message": message}, {"message": {**message, "state": 6 if message["state"] != 6 else 5}}
    assert explain.explain(9, body, right, wrong).startswith("byte 4 of the body")
    refused = {"reject": "range"}
    assert "state is 9, legal are 1 to 6" in explain.explain(9, body[:4] + b"\x09" + body[5:], right, refused)
    assert "time_ms needs 8 bytes, 3 are left" in explain.explain(9, body[:8], right, refused)
