"""Clips: the chain and signature of manifests, and uploads that are interrupted, refused or forgotten."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import patrolink_enums as enums
import patrolink_messages as m
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from patrolink_protocol import clip as clip_format

from patrolink.conformance.case import (
    DEVICE,
    MISSING,
    UNEXPECTED,
    WRONG_ANSWER,
    Case,
    Context,
    Judgement,
    failed,
    passed,
)
from patrolink.conformance.cases.bodies import pack
from patrolink.conformance.dialogue import Dialogue, Message, Script, command_body, replay
from patrolink.conformance.evidence import Answer, Evidence, Exchange, is_frame, listen, transmit
from patrolink.conformance.suite import ids_by_subject
from patrolink.conformance.testee.network_packets import TCP, Traffic, parse
from patrolink.conformance.upload_server import PORT, UploadServer

_COMMAND_ID = 0x43100000
_ANSWER_MS, _UPLOAD_MS = 10_000, 180_000
_ATTEMPTS = 6
_REPEAT_MS = 120_000
_SIGNATURE_BYTES = 64
_DONE = (enums.ANSWER_RESULT_DONE, enums.ANSWER_RESULT_STARTED)
_VERIFIED, _DAMAGED = enums.CLIP_STATE_STATE_VERIFIED, enums.CLIP_STATE_STATE_DAMAGED


def cases() -> list[Case]:
    """Return the cases."""
    return [*_manifests(), *_uploads(), *_states()]


class _Site:
    """The hub of a case: its upload server, the clips that it asked for, and what the device has sent."""

    def __init__(self, context: Context) -> None:
        assert context.device is not None
        self._dialogue = Dialogue(context)
        self.server = UploadServer(context.device)
        self.messages: list[tuple[int, Message]] = []
        self.clips: list[int] = []
        self.marks: dict[str, int] = {}
        self.now_ms = 0
        self._number = 0

    def take(self, exchange: Exchange) -> Script:
        """Process an exchange and answer the requests in it."""
        self.now_ms = exchange.at_ms if exchange.answers else exchange.at_ms + exchange.step.ms
        for at_ms, text in exchange.answers:
            self.now_ms = at_ms
            if is_frame(text):
                reading = self._dialogue.reader.read(Answer(at_ms, text))
                if reading.name in ("answer", "clip_manifest", "clip_state"):
                    self.messages.append((at_ms, reading.message))
                continue
            traffic = parse(text)
            if (traffic.protocol, traffic.port) == (TCP, PORT):
                answer = self.server.feed(traffic.data)
                if answer is None or answer:
                    yield transmit(Traffic(TCP, PORT, answer or b"").text())

    def serve(self, ms: int, until: Callable[[], Any] = lambda: False) -> Script:
        """Serve for a time, or until a condition holds."""
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms and not until():
            exchange = yield listen(end_ms - self.now_ms, 1)
            yield from self.take(exchange)

    def send(self, kind: int, body: bytes) -> Script:
        """Send a frame to the device."""
        self._number += 1
        exchange = yield self._dialogue.send(kind, body)
        self.now_ms = exchange.at_ms

    def send_state(self, clip: int, state: int) -> Script:
        """Send the state of a clip to the device."""
        fields = {"clip_id": clip, "state": state, "bytes_done": 0, "time_ms": None}
        yield from self.send(m.CLIP_STATE, pack(m.CLIP_STATE, fields))

    def take_picture(self) -> Script:
        """Let the device make a clip of one picture, and wait for its number, its announcement and its files."""
        for _ in range(_ATTEMPTS):  # a device that has just been started has no session, no camera or no time yet
            command_id = _COMMAND_ID + self._number
            yield from self.send(m.COMMAND, command_body(enums.COMMAND_ACTION_SNAPSHOT, command_id))
            yield from self.serve(_ANSWER_MS, self._has_answer(command_id))
            answer = self._answer(command_id)
            if answer is not None and answer["result"] in _DONE and answer["ref"] is not None:
                self.clips.append(answer["ref"])
                break
            yield from self.serve(_ANSWER_MS)
        if self.clips:
            yield from self.serve(
                _UPLOAD_MS, lambda: self.announcement(self.clips[-1]) and self.is_whole(self.clips[-1])
            )

    def _has_answer(self, command_id: int) -> Callable[[], bool]:
        return lambda: self._answer(command_id) is not None

    def _answer(self, command_id: int) -> Message | None:
        return next((a for _, a in self.messages if a["message"] == "answer" and a["command_id"] == command_id), None)

    def announcements(self, clip: int) -> list[int]:
        """Return when a clip was announced."""
        return [at_ms for at_ms, msg in self.messages if msg["message"] == "clip_manifest" and msg["clip_id"] == clip]

    def announcement(self, clip: int) -> Message | None:
        """Return the first clip_manifest of a clip."""
        announced = (msg for _, msg in self.messages if msg["message"] == "clip_manifest" and msg["clip_id"] == clip)
        return next(announced, None)

    def manifest(self, clip: int) -> bytes:
        """Return the uploaded manifest of a clip, empty if there is none."""
        return next((data for data in self.server.whole(clip).values() if data.startswith(b'{"clip":')), b"")

    def is_whole(self, clip: int) -> bool:
        """Return whether the manifest and all files that it lists have arrived."""
        data = self.manifest(clip)
        return bool(data) and len(self.server.whole(clip)) > len(_listed(data))


def _listed(manifest: bytes) -> list[dict[str, Any]]:
    """Return the lines of a manifest that list a file; empty if it is no manifest."""
    try:
        lines = [json.loads(line) for line in manifest.splitlines()]
    except ValueError:
        return []
    lines = [line for line in lines if isinstance(line, dict)]
    return [line for line in lines if "bytes" in line and ("seg" in line or "thumb" in line)]


def _case(title: str, requirement: str, act: Callable[[_Site], Script], check: Callable[[_Site], Judgement]) -> Case:
    def session(site: _Site) -> Script:
        yield from act(site)
        for clip in site.clips:
            yield from site.send_state(clip, _VERIFIED)
        yield from site.serve(1000)

    def judge(context: Context, evidence: Evidence) -> Judgement:
        site = _Site(context)
        replay(session(site), evidence)
        if not site.clips:
            return failed(MISSING, "no snapshot: the command was not answered with done and the number of a clip")
        if not site.announcement(site.clips[0]):
            return failed(MISSING, f"no clip_manifest of clip {site.clips[0]} within {_UPLOAD_MS} ms")
        if site.server.faults:
            return failed(WRONG_ANSWER, site.server.faults[0])
        try:
            return check(site)
        except (ValueError, KeyError, TypeError, IndexError) as e:
            return failed(WRONG_ANSWER, f"the manifest has not the form of CLIP.md ({type(e).__name__}: {e})")

    case_id = ids_by_subject().get(title, "")
    steps = lambda context: session(_Site(context))  # noqa: E731 - a generator for each run
    return Case(case_id, title, requirement, DEVICE, steps, judge, spec="CLIP.md", claim="video")


def _one_picture(site: _Site) -> Script:
    return site.take_picture()


def _check_whole(site: _Site) -> Judgement:
    clip = site.clips[0]
    if not site.is_whole(clip):
        return failed(MISSING, f"the files of clip {clip} have not arrived: {sorted(site.server.whole(clip))}")
    files = site.server.whole(clip).values()
    digests = {hashlib.sha256(data).hexdigest() for data in files}
    for line in _listed(site.manifest(clip)):
        if line["sha256"] not in digests:
            return failed(WRONG_ANSWER, f"the manifest lists {line['sha256']}, which is no file that has arrived")
    claimed = {
        f.metadata.get("sha256") for f in site.server.files if f.is_whole and f.metadata.get("clip") == str(clip)
    }
    return passed() if claimed == digests else failed(WRONG_ANSWER, "sha256 of Upload-Metadata is not that of a file")


def _manifests() -> list[Case]:
    def check_chain(site: _Site) -> Judgement:
        announced, lines = site.announcement(site.clips[0]), site.manifest(site.clips[0]).splitlines(keepends=True)
        assert announced is not None
        if len(lines) < 3:
            return failed(MISSING, "no manifest with head, files and seal")
        head, seal = json.loads(lines[0]), json.loads(lines[-1])
        chain = bytes.fromhex(head["previous"])
        for line in lines[:-1]:
            chain = clip_format.extend_chain(chain, line)
        expected = {"chain": chain.hex(), "signer": head["signer"], "signature": seal.get("sig")}
        got = {name: announced[name] for name in expected}
        if got != expected or seal.get("chain") != chain.hex():
            return failed(WRONG_ANSWER, f"clip_manifest has {got}, the manifest {expected}")
        return _check_signature(announced["signer"], announced["signature"], chain)

    def two_pictures(site: _Site) -> Script:
        yield from site.take_picture()
        yield from site.take_picture()

    def check_two(site: _Site) -> Judgement:
        if len(site.clips) < 2 or not site.announcement(site.clips[1]):
            return failed(MISSING, "no second clip")
        first, second = (site.announcement(clip) for clip in site.clips)
        assert first is not None and second is not None
        if second["clip_id"] != first["clip_id"] + 1:
            return failed(WRONG_ANSWER, f"clip {second['clip_id']} after clip {first['clip_id']}")
        expected = first["chain"]
        got = second["previous_chain"]
        return passed() if got == expected else failed(WRONG_ANSWER, f"previous_chain {got}, expected {expected}")

    return [
        _case("clip_manifest has the chain and the signature of the manifest", "CLIP-1", _one_picture, check_chain),
        _case("each clip continues the chain of the one before", "CLIP-1", two_pictures, check_two),
        _case(
            "the files of a clip arrive with the hashes that its manifest lists", "CLIP-2", _one_picture, _check_whole
        ),
    ]


def _check_signature(signer: str, signature: str, chain: bytes) -> Judgement:
    r, s = (int(signature[at : at + _SIGNATURE_BYTES], 16) for at in (0, _SIGNATURE_BYTES))
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(signer))
        digest = clip_format.signature_digest(chain)
        public.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except (ValueError, InvalidSignature):
        return failed(WRONG_ANSWER, "the signature of the chain is not that of the signer")
    return passed()


def _uploads() -> list[Case]:
    def with_server(**faults: Any) -> Callable[[_Site], Script]:
        def act(site: _Site) -> Script:
            for name, value in faults.items():
                setattr(site.server, name, value if not isinstance(value, list) else [*value])
            return site.take_picture()

        return act

    def check_resumed(site: _Site) -> Judgement:
        if site.server.cuts:
            return failed(MISSING, "no body of a request was long enough to be cut")
        if not any(request.method == "HEAD" for request in site.server.requests):
            return failed(MISSING, "the device does not ask for the offset after a connection was lost")
        return _check_whole(site)

    cut, loss = {"cuts": [100, 100]}, {"cuts": [100, 100, 100], "forgets": 150}
    return [
        _case("an upload that is interrupted twice", "CLIP-2", with_server(**cut), check_resumed),
        _case("the hub has lost bytes of an upload that was interrupted", "CLIP-2", with_server(**loss), check_resumed),
        _case("the hub refuses the offset of a part", "CLIP-2", with_server(**cut, conflicts=1), check_resumed),
        _case("the hub names an offset past the length", "CLIP-2", with_server(**cut, past=1), check_resumed),
    ]


def _states() -> list[Case]:
    def unanswered(site: _Site) -> Script:
        yield from site.take_picture()
        yield from site.serve(3 * _REPEAT_MS)
        for clip in site.clips:
            yield from site.send_state(clip, _VERIFIED)
        yield from site.serve(1000)
        site.marks["verified"] = site.now_ms
        yield from site.serve(2 * _REPEAT_MS)

    def check_repeats(site: _Site) -> Judgement:
        times = site.announcements(site.clips[0])
        if len([at_ms for at_ms in times if at_ms <= site.marks["verified"]]) < 3:
            return failed(MISSING, f"clip_manifest came {len(times)} times in {3 * _REPEAT_MS} ms without clip_state")
        late = [at_ms for at_ms in times if at_ms > site.marks["verified"]]
        return failed(UNEXPECTED, "clip_manifest is repeated after clip_state verified") if late else passed()

    def damaged(site: _Site) -> Script:
        yield from site.take_picture()
        site.marks["files"] = len(site.server.files)
        for clip in site.clips:
            yield from site.send_state(clip, _DAMAGED)
            yield from site.serve(_UPLOAD_MS, _is_sent_again(site, clip))
            yield from site.serve(10_000)

    def check_again(site: _Site) -> Judgement:
        repeated = [f for f in site.server.files[site.marks["files"] :] if f.metadata.get("clip") == str(site.clips[0])]
        return passed() if repeated else failed(MISSING, "the clip is not sent again after clip_state damaged")

    return [
        _case("clip_manifest is repeated until the hub has verified the clip", "CLIP-2", unanswered, check_repeats),
        _case("a damaged clip is sent again", "CLIP-2", damaged, check_again),
    ]


def _is_sent_again(site: _Site, clip: int) -> Callable[[], bool]:
    """Return the condition that a file of a clip has arrived twice."""

    def is_sent_again() -> bool:
        names = [
            f.metadata.get("name") for f in site.server.files if f.is_whole and f.metadata.get("clip") == str(clip)
        ]
        return len(names) > len(set(names))

    return is_sent_again
