"""What a codec encodes: frames of messages, compared byte by byte."""

import json
from typing import Any

import patrolink_messages as m

from patrolink.conformance import frames
from patrolink.conformance.case import WRONG_ANSWER, Case, Context, Judgement, failed, passed
from patrolink.conformance.cases.bodies import baselines, direction, fields, pack
from patrolink.conformance.cases.vectors import load
from patrolink.conformance.evidence import Evidence, ask
from patrolink.conformance.expect import case, mismatch
from patrolink.conformance.frames import COUNTER_MAX, DEVICE, SECRET, TAIL, seal, with_tail

_REFUSED = "range length type"  # the reason for which an encoder refuses is its own
Requests = list[tuple[str, bytes | None]]


def request(
    kind: int,
    message: dict[str, Any],
    counter: int = 1,
    epoch: int = 0,
    flags: int = 0,
    device: str = DEVICE,
) -> str:
    """Return an E request; a confidential message is encrypted."""
    side = direction(kind)
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
    return f"E {SECRET.hex()} {device} {side} {epoch} {counter} {flags | confidential(kind)} {kind} {text}"


def confidential(kind: int) -> int:
    """Return the flag of encrypted bodies, if a sender must set it for this type."""
    return frames.ENCRYPTED if m.CONFIDENTIAL >> kind & 1 else 0


def sealed(kind: int, body: bytes, counter: int = 1, epoch: int = 0, flags: int = 0, device: str = DEVICE) -> bytes:
    """Return the frame that a sender must make."""
    return seal(kind, body, counter, direction(kind), epoch, device, flags=flags | confidential(kind))


def cases() -> list[Case]:
    """Return the cases."""
    result = []
    for kind, baseline in baselines().items():
        name = baseline["message"]
        requirement = next(v["req"][0] for v in load("messages.json") if v["id"] == f"{name}-some")
        vectors = [v for v in load("messages.json") if v.get("type") == kind and not v["id"].endswith("-later")]
        good: Requests = [(request(kind, v["message"]), sealed(kind, pack(kind, v["message"]))) for v in vectors]
        result.append(encoded(f"{name}: encoded", requirement, good))
        result.append(encoded(f"{name}: values that an encoder refuses", "BODY-2", _refused(kind, baseline)))
    return [*result, *_headers()]


def encoded(title: str, requirement: str, pairs: Requests) -> Case:
    """Return a case of E requests; None: the encoder must refuse."""
    steps = [ask(line) for line, _ in pairs]

    def judge(context: Context, evidence: Evidence) -> Judgement:
        for number, ((line, frame), got) in enumerate(zip(pairs, evidence.answers(), strict=True), 1):
            fault = mismatch(got, _REFUSED if frame is None else {"frame": frame.hex()})
            if fault:
                return failed(WRONG_ANSWER, f"request {number} of {len(pairs)}: {fault}; request: {line}")
        return passed()

    claim = "batch_encode" if steps[0].data[0] == "B" else "encode"
    return case(title, requirement, lambda context: steps, judge, claim=claim)


def _refused(kind: int, baseline: dict[str, Any]) -> Requests:
    """Return messages with one value out of its range, without a field, and with another one."""
    pairs: Requests = []
    for name, letter, _, low, high, unknown in fields(kind):
        if letter == "s":
            wrong: list[Any] = ["a" * (high + 1), "ä" * (high // 2 + 1)]
        elif letter == "x":
            wrong = ["00" * (high + 1)] + (["00" * (low - 1)] if low > 1 else [])
        else:
            wrong = [value for value in (low - 1, high + 1) if value != unknown]
            wrong += [None] if unknown is None else []
        pairs += [(request(kind, {**baseline, name: value}), None) for value in wrong]
        pairs.append((request(kind, {key: value for key, value in baseline.items() if key != name}), None))
    return [*pairs, (request(kind, {**baseline, "nothing": 1}), None)]


def _headers() -> list[Case]:
    kind, message = m.DEVICE_STATUS, baselines()[m.DEVICE_STATUS]
    body = pack(kind, message)
    counters = [0, 1, 255, 65_536, 0x0ABCDEF1, COUNTER_MAX]
    epochs = [0, 1, 2, 255, 65_536, 0x80000001, 4294967295]
    command = baselines()[m.COMMAND]
    tails: list[list[tuple[int, bytes]]] = [[], [(70, b"abc")], [(1, b"\x01"), (2, b""), (127, bytes(200))]]
    extended: Requests = [
        (
            request(kind, {**message, "extensions": [[number, value.hex()] for number, value in tail]}, flags=TAIL),
            sealed(kind, with_tail(body, *tail), flags=TAIL),
        )
        for tail in tails
    ]
    names = ("a", "x" * 32, "Unit_7-b")
    return [
        encoded(
            "counters of 28 bits, encoded",
            "REPLAY-1",
            [(request(kind, message, counter), sealed(kind, body, counter)) for counter in counters],
        ),
        encoded(
            "keys and phase of epochs, encoded",
            "KEY-2",
            [(request(kind, message, epoch=epoch), sealed(kind, body, epoch=epoch)) for epoch in epochs],
        ),
        encoded(
            "device ids of 1 to 32 characters, encoded",
            "KEY-1",
            [(request(kind, message, device=name), sealed(kind, body, device=name)) for name in names],
        ),
        encoded("tails, encoded", "TAIL-1", extended),
        encoded(
            "a long tag, encoded",
            "FRAME-6",
            [(request(m.COMMAND, command, 5), sealed(m.COMMAND, pack(m.COMMAND, command), 5))],
        ),
        encoded(
            "text with quotes, control characters and characters outside the basic plane, encoded",
            "BODY-3",
            [
                (request(m.TEXT, {**text, "text": words}), sealed(m.TEXT, pack(m.TEXT, {**text, "text": words})))
                for text in (baselines()[m.TEXT],)
                for words in ('a "b" \\ c', "tab\tline\nend", "\u0001\u001f", "Grüße 巡逻 👮", "\ufeff")
            ],
        ),
    ]
