"""Claims of the profile against what the testee does: a claim that is not true is a finding."""

from collections.abc import Callable, Generator

import patrolink_messages as m
from patrolink_names import BITS
from patrolink_protocol import decode, frame
from patrolink_protocol.errors import RejectError

from patrolink.conformance.case import (
    CLAIM,
    CODEC,
    DEVICE,
    MISSING,
    Case,
    Context,
    Judgement,
    Script,
    failed,
    passed,
)
from patrolink.conformance.cases.vectors import load
from patrolink.conformance.evidence import Evidence, Exchange, Step, ask, canonical, restart, send, wait
from patrolink.conformance.profile import CLAIMS, NO, YES, of_tier

_KEY = "00" * 32
_AT = f"{_KEY} probe 0 0"
_HELLO_WAIT_MS = 60_000
_PROBE_WAIT_MS = 10_000
# claim of the device tier → a message to the device that only a device with this capability answers
_DOWN_PROBES = {"ptt": "ptt_group", "firmware_update": "firmware", "certify": "certify", "text": "text"}
# claim → request of the codec tier, and the name that a right answer has
_PROBES = {
    "encode": (f'E {_AT} 1 0 18 {{"originate_ms":1,"receive_ms":null,"transmit_ms":null}}', "frame"),
    "batch_encode": (f"B {_KEY} probe 0 1 6 1 [[1700000000000,1,2,3,4,5,6,7,8,9]]", "frame"),
    "serial": ("P 00", "packet"),
}


def cases() -> list[Case]:
    """Return a case for each claim of the codec tier, one for what `hello` says, and probes of devices."""
    codec = [_codec_case(i, claim) for i, claim in enumerate(of_tier(CODEC), 1)]
    hello = Case("PL-CLAIM-1-101", "claims and hello", "CLAIM-1", DEVICE, _hello_steps, _judge_hello)
    probes = [_down_probe(i, claim, name) for i, (claim, name) in enumerate(_DOWN_PROBES.items(), 102)]
    return [*codec, hello, *probes]


def _codec_case(number: int, claim: str) -> Case:
    request, name = _PROBES.get(claim, ("V", claim))

    def steps(context: Context) -> Script:
        return [ask(request)]

    judge = _judge_rice if claim == "rice" else _judge_probe(claim, name)
    return Case(f"PL-CLAIM-1-{number:03d}", f"claim {claim}", "CLAIM-1", CODEC, steps, judge)


def _judge_probe(claim: str, name: str) -> Callable[[Context, Evidence], Judgement]:
    def judge(context: Context, evidence: Evidence) -> Judgement:
        got = evidence.answer(0)
        return _compare(context, claim, name in got, f"the testee answers {canonical(got)}")

    return judge


def _judge_rice(context: Context, evidence: Evidence) -> Judgement:
    got = evidence.answer(0)
    return _compare(context, "rice", got.get("rice") is True, f"the testee answers {canonical(got)}")


def _compare(context: Context, claim: str, present: bool, shown: str) -> Judgement:
    if (context.claims.get(claim) == YES) is present:
        return passed()
    return failed(CLAIM, f"the profile says {claim} = {context.claims.get(claim)}, but {shown}")


def _hello_steps(context: Context) -> Generator[Step, Exchange, None]:
    """Collect frames until hello: frames that were stored before the start may come before it."""
    yield restart()
    left_ms = _HELLO_WAIT_MS
    while left_ms > 0:
        exchange = yield wait(left_ms, frames=1)
        if not exchange.answers or int(exchange.answers[0].text[:2], 16) & 31 == m.HELLO:
            return
        left_ms -= max(1, exchange.answers[0].at_ms - exchange.at_ms)


def _judge_hello(context: Context, evidence: Evidence) -> Judgement:
    assert context.device is not None
    frames = evidence.frames()
    if not frames or int(frames[-1].text[:2], 16) & 31 != m.HELLO:
        return failed(MISSING, f"no hello within {_HELLO_WAIT_MS} ms after the start")
    device = context.device
    channel = frame.Channel(device.secret, device.id.encode(), frame.UPLINK, device.epoch)
    try:
        kind, _, body, _ = channel.open_frame(bytes.fromhex(frames[-1].text))
        message = decode.decode(kind, body)
    except RejectError as e:
        return failed(CLAIM, f"the hello after the start is refused: {e.name}")
    names = BITS["hello", "profiles"]
    for claim in of_tier(DEVICE):
        bit = CLAIMS[claim].bit
        if bit:
            present = bool(message["profiles"] >> names.index(bit) & 1)
            result = _compare(context, claim, present, f"hello {'has' if present else 'does not have'} the bit {bit}")
            if result != passed():
                return result
    return passed()


def _down_probe(number: int, claim: str, name: str) -> Case:
    """Return the case that sends a message which a device without a capability must not act on."""

    def steps(context: Context) -> Script:
        return [send(_sealed(context, name)), wait(_PROBE_WAIT_MS)]

    def judge(context: Context, evidence: Evidence) -> Judgement:
        kinds = {int(answer.text[:2], 16) & 31 for answer in evidence.frames()}
        acted = sorted(kinds & set(CLAIMS[claim].types))
        if context.claims.get(claim) == NO and acted:
            return failed(CLAIM, f"the profile says {claim} = no, but the device answers {name} with type {acted[0]}")
        return passed()

    return Case(f"PL-CLAIM-1-{number}", f"probe of {claim}: {name}", "CLAIM-1", DEVICE, steps, judge)


def _sealed(context: Context, name: str) -> bytes:
    """Return a genuine message to the device: the body is that of the first vector of its kind."""
    assert context.device is not None
    vector = next(v for v in load("messages.json") if v.get("message", {}).get("message") == name)
    key, device_id = bytes.fromhex(vector["key"]), vector["device"].encode()
    source = frame.Channel(key, device_id, vector["direction"], vector["epoch"])
    kind, _, body, _ = source.open_frame(bytes.fromhex(vector["frame"]))
    device = context.device
    buf = bytearray(2 * len(vector["frame"]))
    end = frame.HEADER_BYTES + len(body)
    buf[frame.HEADER_BYTES : end] = body
    channel = frame.Channel(device.secret, device.id.encode(), frame.DOWNLINK, device.epoch)
    return bytes(buf[: channel.seal_into(buf, kind, device.counter, end)])
