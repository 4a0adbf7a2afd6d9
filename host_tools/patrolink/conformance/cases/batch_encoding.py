"""Batches that a codec encodes: whatever coding it chooses, the reference codec must decode the same rows."""

import json
from typing import Any

import patrolink_messages as m
from patrolink_enums import UNKNOWN
from patrolink_protocol import track_encoder
from patrolink_protocol.frame import Channel

from patrolink.conformance import batch_maker, frames, reference
from patrolink.conformance.case import SHOULD, WRONG_ANSWER, Case, Context, Judgement, failed, passed
from patrolink.conformance.cases.encoding import encoded
from patrolink.conformance.cases.vectors import load
from patrolink.conformance.evidence import Evidence, ask, canonical
from patrolink.conformance.expect import case, mismatch
from patrolink.conformance.frames import DEVICE, SECRET, UP
from patrolink.core.text import plural

_RANDOM_BATCHES = 12


def batch_request(
    rows: list[list[Any]], resolution: int = 6, tick_ms: int = 1, counter: int = 1, epoch: int = 0
) -> str:
    """Return a B request."""
    text = json.dumps(rows, separators=(",", ":"))
    return f"B {SECRET.hex()} {DEVICE} {epoch} {counter} {resolution} {tick_ms} {text}"


def cases() -> list[Case]:
    """Return the cases."""
    samples = [
        (vector["message"]["rows"], vector["message"]["resolution"])
        for vector in load("batches.json")
        if "reject" not in vector
        and vector["id"].startswith(("batch-walk", "batch-gaps", "batch-unknown", "batch-still"))
    ]

    def random(context: Context) -> list[tuple[list[list[Any]], int]]:
        generator = context.random()
        return [
            (_random_rows(generator.randrange, generator.choice), 5 + generator.randrange(3))
            for _ in range(_RANDOM_BATCHES)
        ]

    bad = batch_maker.rows(2)
    values = ((0, -1), (1, 900_000_001), (2, -1_800_000_001), (3, 0), (3, 32), (1, None), (3, None))
    wrong: list[list[list[Any]]] = [
        [],
        *([[*row[:place], value, *row[place + 1 :]] for row in bad] for place, value in values),
    ]
    return [
        _batch_case("walks, gaps and unknown values, encoded as batches", "BATCH-1", lambda context: samples),
        _batch_case("random rows, encoded as batches", "BATCH-1", random),
        encoded("rows that no batch can hold", "BATCH-3", [(batch_request(rows), None) for rows in wrong]),
        _size_case(samples),
        _encrypted_case(),
    ]


def _random_rows(below: Any, choice: Any) -> list[list[Any]]:
    """Return rows that any resolution holds exactly, with jumps and unknown values."""
    rows = []
    row: list[Any] = [1_700_000_000_000, 311_234_500, 1_211_234_500, 3, 12_000, 1_400, 9_000, 4_000, 9, 80]
    units = (None, 100, 100, None, 1_000, 100, 200, 1_000, 1, 1)
    for _ in range(choice((1, 2, 7, 30, 60))):
        row = list(row)
        row[0] += choice((1000, 1000, 1000, 100, 37, 60_000))
        row[3] = choice((3, 3, 3, 2, 7, 11, 19))
        for place, unit in enumerate(units):
            if unit is not None and row[place] is not None and below(3) == 0:
                row[place] += unit * (below(7) - 3)
        row[6] = (row[6] or 0) % 35_800
        row[8], row[9] = max(0, min(99, row[8] or 0)), max(0, min(100, row[9] or 0))
        row[5], row[7] = max(0, row[5] or 0), max(0, row[7] or 0)
        rows.append([None if place > 3 and below(15) == 0 else value for place, value in enumerate(row)])
    return rows


def _opened(got: dict[str, Any], channel: Channel) -> dict[str, Any]:
    frame = got.get("frame")
    try:
        return reference.read(bytes.fromhex(frame or ""), channel)
    except (TypeError, ValueError):
        return {"reject": f"no frame: {canonical(got)}"}


def _batch_case(title: str, requirement: str, samples: Any) -> Case:
    """Return a case of B requests: whatever coding the testee chose, the reference codec decodes the same rows."""
    channel = Channel(SECRET, DEVICE.encode(), UP, 0)

    def judge(context: Context, evidence: Evidence) -> Judgement:
        for (rows, resolution), got in zip(samples(context), evidence.answers(), strict=True):
            message = {"message": "position_batch", "resolution": resolution, "rows": rows}
            fault = mismatch(_opened(got, channel), frames.answer(m.POSITION_BATCH, message))
            if fault:
                return failed(
                    WRONG_ANSWER, f"resolution {resolution}, {plural(len(rows), 'row')}, decoded again: {fault}"
                )
        return passed()

    return case(
        title,
        requirement,
        lambda context: [ask(batch_request(*sample)) for sample in samples(context)],
        judge,
        claim="batch_encode",
    )


def _encrypted_case() -> Case:
    def judge(context: Context, evidence: Evidence) -> Judgement:
        got = evidence.answer(0)
        flags = int(str(got.get("frame", "000"))[2:3] or "0", 16)
        return passed() if flags & frames.ENCRYPTED else failed(WRONG_ANSWER, f"not encrypted: {canonical(got)}")

    steps = [ask(batch_request(batch_maker.rows(3)))]
    title = "a sender encrypts a batch"
    return case(title, "CONFIDENTIAL-1", lambda context: steps, judge, claim="batch_encode")


def _size_case(samples: list[tuple[list[list[Any]], int]]) -> Case:
    """Return a case of the level SHOULD: batches are at most a tenth longer than those of the reference encoder."""

    def size(rows: list[list[Any]], resolution: int) -> int:
        encoder = track_encoder.TrackEncoder(len(rows), resolution)
        for time_ms, *row in rows:
            day, ms = divmod(time_ms, 86_400_000)
            encoder.add(day, ms, [UNKNOWN if v is None else v for v in row])
        return int(encoder.encode_into(bytearray(8192), 0, len(rows)))

    def judge(context: Context, evidence: Evidence) -> Judgement:
        got = sum(
            len(answer.get("frame", "")) // 2 - frames.HEADER_BYTES - m.TAG_BYTES for answer in evidence.answers()
        )
        best = sum(size(*sample) for sample in samples)
        if 0 < got <= best * 1.1:
            return passed()
        return failed(WRONG_ANSWER, f"batches of {plural(got, 'byte')}; the reference encoder needs {best}")

    steps = [ask(batch_request(*sample)) for sample in samples]
    return case("size of batches", "BATCH-5", lambda context: steps, judge, level=SHOULD, claim="batch_encode")
