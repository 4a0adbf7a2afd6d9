"""Updates over the air: what a device verifies, requests, resumes, reports and confirms."""

import hashlib
from collections.abc import Callable
from typing import Any

import patrolink_enums as enums
import patrolink_messages as m
from patrolink_names import NAMES
from patrolink_protocol import image_header

from patrolink.conformance.case import (
    DEVICE,
    MISSING,
    SHOULD,
    UNEXPECTED,
    WRONG_ANSWER,
    Case,
    Context,
    Judgement,
    failed,
    passed,
)
from patrolink.conformance.cases.bodies import pack
from patrolink.conformance.dialogue import FUTURE_MS, Dialogue, Message, Script, replay
from patrolink.conformance.evidence import HOLD, RELEASE, Evidence, Exchange, link, output, restart, wait
from patrolink.conformance.suite import ids_by_subject

_COMMAND_IDS = 1 << 30  # and the counter of the case, as a command_id that comes again changes nothing
_STEP_MS, _ANSWER_MS, _INSTALL_MS, _TRIAL_MS = 5000, 60_000, 600_000, 600_000
_ACKNOWLEDGE_MS = 200  # for frames of the old image; no device starts so fast
_BLOCK_MAX = 900
_FRAMES_MAX = 90  # of 99 downlink counters of a case
_HEADER_BYTES = image_header.HEADER_BYTES
_FIRST_ATTEMPTS = 6
_INSTALL, _CANCEL = enums.FIRMWARE_ACTION_INSTALL, enums.FIRMWARE_ACTION_CANCEL
_STATES = NAMES["firmware_status", "state"]
_REASONS = NAMES["firmware_status", "reason"]
_NEVER = ("installed", "confirmed")


class _Site:
    """The hub of a case: it has one image, and answers requests of its bytes.

    Attributes:
        data: The image file.
        statuses: firmware_status of this case, in order.
        requests: (time, offset, max_bytes) of the requests of the image.
        hellos: hello messages.
        held: States that had been reported before frames were acknowledged again.
        answers: What is sent for a request; a case may replace it.
    """

    def __init__(self, context: Context) -> None:
        assert context.device is not None
        self._dialogue = Dialogue(context)
        self._command_id = _COMMAND_IDS | context.device.counter
        self.data = b""
        self.statuses: list[Message] = []
        self.requests: list[tuple[int, int, int]] = []
        self.hellos: list[Message] = []
        self.held: list[str] = []
        self._frames: set[str] = set()
        self.answers: Callable[[int, int], list[tuple[bytes, int, bytes]]] = self._block
        self.now_ms = 0
        self.number = 0

    @property
    def image_id(self) -> bytes:
        """First bytes of the SHA-256 of the image file."""
        return hashlib.sha256(self.data).digest()[:8]

    def _block(self, offset: int, size: int) -> list[tuple[bytes, int, bytes]]:
        part = self.data[offset : offset + min(size, _BLOCK_MAX)]
        return [(self.image_id, offset, part)] if part else []

    def last_offset(self) -> int:
        """Return the offset of the last request; -1 if there is none."""
        return self.requests[-1][1] if self.requests else -1

    def states(self) -> list[str]:
        """Return the names of the reported states."""
        return [_STATES.get(message["state"], str(message["state"])) for message in self.statuses]

    def has(self, *names: str) -> Callable[[], bool]:
        """Return the condition that one of these states was reported."""
        return lambda: any(name in self.states() for name in names)

    def load(self, name: str = "image") -> Script:
        """Take a new image of the vendor."""
        exchange = yield output(name)
        self.data = bytes.fromhex(exchange.answers[0].text)

    def send(self, kind: int, body: bytes) -> Script:
        """Send a frame to the device."""
        self.number += 1
        exchange = yield self._dialogue.send(kind, body)
        self.now_ms = exchange.at_ms

    def command(self, action: int = _INSTALL, **more: Any) -> Script:
        """Send `firmware`."""
        fields = {
            "command_id": self._command_id, "action": action, "expires_ms": FUTURE_MS, "operator": "conformance kit",
            "image": self.image_id.hex(), "bytes": len(self.data), "rollback_floor": 0, "version": "test",
        }  # fmt: skip
        yield from self.send(m.FIRMWARE, pack(m.FIRMWARE, {**fields, **more}))

    def begin(self, **more: Any) -> Script:
        """Send `firmware` until the device reacts: one that has just been started has no session yet."""
        for _ in range(_FIRST_ATTEMPTS):
            yield from self.command(**more)
            yield from self.serve(_STEP_MS, lambda: self.statuses or self.requests)
            if self.statuses or self.requests:
                return

    def serve(self, ms: int, until: Callable[[], Any]) -> Script:
        """Answer requests for a time, or until a condition holds."""
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms and not until():
            exchange = yield wait(end_ms - self.now_ms, 1)
            yield from self._take(exchange)

    def _take(self, exchange: Exchange) -> Script:
        self.now_ms = exchange.answers[-1].at_ms if exchange.answers else exchange.at_ms + exchange.step.ms
        answers = [answer for answer in exchange.answers if answer.text not in self._frames]  # others are sent again
        self._frames.update(answer.text for answer in answers)
        readings = [self._dialogue.reader.read(answer) for answer in answers]
        statuses = [reading.message for reading in readings if reading.name == "firmware_status"]
        self.statuses += [message for message in statuses if message["command_id"] == self._command_id]
        self.hellos += [reading.message for reading in readings if reading.name == "hello"]
        for request in [reading.message for reading in readings if reading.name == "firmware_request"]:
            if request["image"] != self.image_id.hex():
                continue
            offset, size = request["offset"], request["max_bytes"]
            self.requests.append((self.now_ms, offset, size))
            for image, at, data in self.answers(offset, size):
                if self.number < _FRAMES_MAX:
                    fields = {"image": image.hex(), "offset": at, "data": data.hex()}
                    yield from self.send(m.FIRMWARE_BLOCK, pack(m.FIRMWARE_BLOCK, fields))

    def cancel(self) -> Script:
        """End the installation, so that the next case finds none."""
        if self.data:
            yield from self.command(_CANCEL, bytes=None)
            yield from self.serve(_STEP_MS, lambda: False)


def _case(
    title: str, requirement: str, act: Callable[[_Site], Script], check: Callable[[_Site], Judgement], **more: Any
) -> Case:
    def session(site: _Site) -> Script:
        yield from act(site)
        yield from site.cancel()

    def judge(context: Context, evidence: Evidence) -> Judgement:
        site = _Site(context)
        replay(session(site), evidence)
        if not site.statuses and not site.requests:
            return failed(MISSING, "firmware is not answered")
        return check(site)

    def steps(context: Context) -> Script:
        return session(_Site(context))

    case_id = ids_by_subject().get(title, "")
    return Case(case_id, title, requirement, DEVICE, steps, judge, claim="firmware_update", **more)


def _refused(*reasons: str) -> Callable[[_Site], Judgement]:
    """Return the check that an image was refused, or has failed, for one of these reasons."""

    def check(site: _Site) -> Judgement:
        states = site.states()
        if any(name in states for name in _NEVER):
            return failed(UNEXPECTED, f"states {states}; the image must not be installed")
        ends = [message for message, name in zip(site.statuses, states, strict=True) if name in ("refused", "failed")]
        if not ends:
            return failed(MISSING, f"states {states}; expected refused")
        got = _REASONS.get(ends[0]["reason"], str(ends[0]["reason"]))
        return passed() if got in reasons else failed(WRONG_ANSWER, f"reason {got}, expected {' or '.join(reasons)}")

    return check


def cases() -> list[Case]:
    """Return the cases."""
    return [*_commands(), *_requests(), *_images(), *_trials()]


def _commands() -> list[Case]:
    def below_floor(site: _Site) -> Script:
        yield from site.load()
        yield from site.begin(rollback_floor=0xFFFFFFFF)
        yield from site.serve(_ANSWER_MS, site.has("refused", *_NEVER))

    def expired(site: _Site) -> Script:
        yield from site.load()
        yield from site.begin(expires_ms=1000)
        yield from site.serve(_ANSWER_MS, site.has("refused", *_NEVER))

    def check_expired(site: _Site) -> Judgement:
        return failed(UNEXPECTED, "an expired request is carried out") if site.requests else _refused("expired")(site)

    def repeated(site: _Site) -> Script:
        yield from below_floor(site)
        yield from site.command(rollback_floor=0)
        yield from site.serve(_ANSWER_MS, lambda: len(site.statuses) > 1)

    def check_repeated(site: _Site) -> Judgement:
        states = site.states()
        if len(states) < 2:
            return failed(MISSING, "a repeated command_id is not answered with the last state")
        return passed() if states[1] == states[0] else failed(WRONG_ANSWER, f"states {states} of one command_id")

    return [
        _case("an image below the rollback floor is refused", "FIRMWARE-1", below_floor, _refused("rollback")),
        _case("a firmware message that has expired is refused", "FIRMWARE-1", expired, check_expired),
        _case("a command_id that comes again changes nothing", "FIRMWARE-1", repeated, check_repeated),
    ]


def _requests() -> list[Case]:
    def silent(site: _Site) -> Script:
        yield from site.load()
        answers, site.answers = site.answers, lambda offset, size: []
        yield from site.begin()
        yield from site.serve(_ANSWER_MS, lambda: len(site.requests) > 1)
        site.answers = answers
        yield from site.serve(_ANSWER_MS, lambda: site.last_offset() > 0)

    def check_silent(site: _Site) -> Judgement:
        if len(site.requests) < 3:
            return failed(MISSING, f"{len(site.requests)} requests; one without an answer is not repeated")
        (first_ms, first, _), (second_ms, second, _) = site.requests[:2]
        if second != first or second_ms - first_ms < 1000:
            return failed(
                WRONG_ANSWER, f"offset {second} after {second_ms - first_ms} ms; the request for {first} waits"
            )
        return passed() if site.requests[-1][1] > first else failed(MISSING, "no request of the next bytes")

    def cut(site: _Site) -> Script:
        yield from site.load()
        yield from site.begin()
        yield from site.serve(_ANSWER_MS, lambda: site.last_offset() > _HEADER_BYTES)
        site.requests.append((site.now_ms, -1, 0))
        yield restart()
        yield from site.serve(_INSTALL_MS, lambda: site.last_offset() >= 0 or site.has("installed")())

    def check_cut(site: _Site) -> Judgement:
        offsets = [offset for _, offset, _ in site.requests]
        after = offsets[offsets.index(-1) + 1 :] if -1 in offsets else []
        if not after:
            return failed(MISSING, f"no request after a restart; before it: {offsets}")
        return passed() if after[0] > 0 else failed(WRONG_ANSWER, "the download begins anew after a restart")

    return [
        _case("a firmware_request without an answer is repeated", "FIRMWARE-2", silent, check_silent),
        _case("a download goes on after a power cut", "FIRMWARE-2", cut, check_cut, level=SHOULD),
    ]


def _images() -> list[Case]:
    def altered(at: int) -> Callable[[_Site], Script]:
        def act(site: _Site) -> Script:
            yield from site.load()
            data = bytearray(site.data)
            data[at] ^= 1
            site.data = bytes(data)
            yield from site.begin()
            yield from site.serve(_INSTALL_MS, site.has("refused", "failed", *_NEVER))

        return act

    def other_board(site: _Site) -> Script:
        yield from site.load("image_other_board")
        yield from site.begin()
        yield from site.serve(_INSTALL_MS, site.has("refused", "failed", *_NEVER))

    def truncated(site: _Site) -> Script:
        yield from site.load()
        site.data = site.data[: len(site.data) - 100]
        yield from site.begin()
        yield from site.serve(_INSTALL_MS, site.has("refused", "failed", *_NEVER))

    def wrong_blocks(site: _Site) -> Script:
        yield from site.load()
        answers = site.answers

        def wrong(offset: int, size: int) -> list[tuple[bytes, int, bytes]]:
            ((image, _, data),) = answers(offset, size)
            noise = bytes(len(data))
            return [(bytes(8), offset, noise), (image, offset + 1, noise), (image, offset, noise + bytes(_BLOCK_MAX))]

        site.answers = lambda offset, size: [(i, o, d[:_BLOCK_MAX]) for i, o, d in wrong(offset, size)][: _wrong(size)]
        yield from site.begin()
        yield from site.serve(_STEP_MS, lambda: False)
        site.answers = answers
        yield from site.serve(_INSTALL_MS, site.has("refused", "failed", *_NEVER))

    def check_wrong(site: _Site) -> Judgement:
        states, offsets = site.states(), [offset for _, offset, _ in site.requests[:2]]
        if len(set(offsets)) > 1:
            return failed(WRONG_ANSWER, f"requests at {offsets}: a wrong block was taken")
        if "installed" not in states:
            return failed(WRONG_ANSWER, f"states {states}; blocks of another image or offset must be ignored")
        return passed()

    return [
        _case(
            "an image whose signature is altered is refused",
            "FIRMWARE-3",
            altered(_HEADER_BYTES - 1),
            _refused("signature"),
        ),
        _case("an image whose content is altered is not installed", "FIRMWARE-3", altered(-1), _refused("damaged")),
        _case("an image for another board is refused", "FIRMWARE-3", other_board, _refused("board")),
        _case("an image that is cut off is not installed", "FIRMWARE-3", truncated, _refused("format", "damaged")),
        _case("blocks of another image, another offset, or too long", "FIRMWARE-3", wrong_blocks, check_wrong),
    ]


def _wrong(size: int) -> int:
    """Return how many kinds of wrong blocks there are for a request; one that is too long needs a short request."""
    return 3 if size < _BLOCK_MAX else 2


def _trials() -> list[Case]:
    def install(site: _Site) -> Script:
        yield from site.load()
        yield from site.begin()
        yield from site.serve(_INSTALL_MS, site.has("confirmed", "refused", "failed", "rolled_back"))

    def content(site: _Site) -> str:
        digest: bytes = image_header.unpack(site.data[:_HEADER_BYTES]).sha256
        return digest[:8].hex()

    def check_confirmed(site: _Site) -> Judgement:
        states = site.states()
        if states[-1:] != ["confirmed"] or "fetching" not in states or "installed" not in states:
            return failed(WRONG_ANSWER, f"states {states}; expected fetching, installed, confirmed")
        if states.index("installed") > states.index("confirmed"):
            return failed(WRONG_ANSWER, f"states {states}; confirmed before installed")
        got = [site.statuses[-1]["content"], *(hello["content"] for hello in site.hellos[-1:])]
        return passed() if got == [content(site)] * 2 else failed(WRONG_ANSWER, f"content {got} in status and hello")

    def unacknowledged(site: _Site) -> Script:
        yield from site.load()
        yield from site.begin()
        yield from site.serve(_INSTALL_MS, site.has("installed", "refused", "failed"))
        yield from site.serve(_ACKNOWLEDGE_MS, lambda: False)
        yield link(HOLD)
        yield from site.serve(_TRIAL_MS, site.has("confirmed", "rolled_back"))
        site.held = site.states()
        yield link(RELEASE)
        yield from site.serve(_INSTALL_MS, site.has("confirmed", "rolled_back"))

    def check_unacknowledged(site: _Site) -> Judgement:
        if "installed" not in site.held or not site.hellos:
            return failed(MISSING, f"states {site.held}; expected installed, and hello of the new image")
        if "confirmed" in site.held:
            return failed(UNEXPECTED, "confirmed, though no frame of the new image was acknowledged")
        states = site.states()
        ended = {"confirmed", "rolled_back"} & set(states)
        return passed() if ended else failed(MISSING, f"states {states}; expected confirmed or rolled_back")

    return [
        _case(
            "confirmed is reported only after an acknowledgement", "FIRMWARE-4", unacknowledged, check_unacknowledged
        ),
        _case("an installed image reports confirmed, with its content", "FIRMWARE-4", install, check_confirmed),
    ]
