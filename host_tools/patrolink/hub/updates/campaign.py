"""State machine of one update campaign: time and messages of devices in, effects out.

A device is *confirmed* only when its status says so under the command of this campaign, and names the agent of the
image that it got. Everything else that ends is no success. A device that is away, or reports that it is busy, is
deferred: neither a failure nor a success.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from typing import NamedTuple

from patrolink.core.text import plural
from patrolink.hub.updates.campaign_file import CampaignImage, CampaignPlan
from patrolink.hub.updates.device_facts import DeviceFacts
from patrolink.hub.updates.image_choice import choose
from patrolink.hub.updates.target import (
    ACTIVE,
    IN_TRIAL,
    NO_HELLO,
    OFFLINE,
    OPEN,
    Cancel,
    Changed,
    Effect,
    Offer,
    Progress,
    Stop,
    Stopped,
    Target,
)  # fmt: skip

ONLINE_MS = 300_000  # a device is online for so long after its last frame
RESEND_MS = 60_000
STALLED_MS = 300_000  # a device that requests nothing for so long is sent its command again
TRIAL_MS = 600_000  # until a device in another trial is tried again
CANCELS_MAX = 10  # a device that has lost its state does not answer
_STEP_MS_MAX = 10_000  # of one step: the hub was suspended if more has passed
_STORE_MS = 600_000  # of time used, at most lost at a restart
_HUB_DEFERRALS = (OFFLINE, NO_HELLO)
_ENDS = ("confirmed", "refused", "failed", "rolled_back", "cancelled")
_STEPS = ("fetching", "deferred", "installed")
_UNALTERED = (Progress.CONFIRMED, Progress.SKIPPED, Progress.CANCELLED)


class Status(NamedTuple):
    """A `firmware_status`: names of state and reason, content in hexadecimal."""

    command: int
    state: str
    reason: str
    content: str
    text: str


class Devices(NamedTuple):
    """What a campaign needs to know of the devices of the site.

    Attributes:
        facts: By name.
        heard_ms: Time of the last frame by name, on the clock of `step`.
        bars: Barred devices.
    """

    facts: Mapping[str, DeviceFacts]
    heard_ms: Mapping[str, int]
    bars: Container[str]


class _Sent(NamedTuple):
    """When a message was sent last, and how often."""

    time_ms: int
    times: int


class Campaign:
    """One campaign.

    Args:
        plan: What people have decided.
        targets: State of devices that is known already.
        stop: Whether it has stopped without a request.
        allocate_command: Returns the id of a new command; None while storage fails.

    Attributes:
        plan: What people have decided.
        targets: State of each device of the plan.
        stop: Whether it has stopped without a request.
    """

    def __init__(
        self, plan: CampaignPlan, targets: Mapping[str, Target], stop: Stop, allocate_command: Callable[[], int | None]
    ) -> None:
        self.plan, self.stop = plan, stop
        self.targets = {device: targets.get(device, Target()) for device in plan.devices}
        self._images = {image.id: image for image in plan.images}
        self._allocate_command = allocate_command
        self._sent: dict[str, _Sent] = {}
        self._stepped_ms: int | None = None

    # --- state --------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """State of the campaign: planned, running, paused, stopped or finished."""
        if self.plan.requested == "running" and self.stop.run == self.plan.run:
            return "stopped"
        is_open = any(target.progress in OPEN for target in self.targets.values())
        return "finished" if self.plan.requested == "running" and not is_open else self.plan.requested

    @property
    def is_running(self) -> bool:
        """True while devices are updated."""
        return self.plan.requested == "running" and self.stop.run != self.plan.run

    def counts(self) -> dict[str, int]:
        """Return the number of devices in each state that occurs."""
        return dict(sorted(Counter(target.state for target in self.targets.values()).items()))

    def image_of(self, device: str) -> CampaignImage | None:
        """Return the image that a device was assigned; None if it was assigned none."""
        target = self.targets.get(device)
        return self._images.get(target.image) if target else None

    def may_fetch(self, device: str, image: str) -> bool:
        """Return True if a device may be sent blocks of an image."""
        target = self.targets.get(device)
        return self.is_running and target is not None and target.progress in ACTIVE and target.image == image

    # --- decisions ----------------------------------------------------------------------------------------------------

    def decide(self, plan: CampaignPlan) -> list[Effect]:
        """Follow a decision: the campaign was started, started again, or paused."""
        is_started = plan.run > self.plan.run
        self.plan = plan
        effects: list[Effect] = []
        if is_started:
            for device, target in self.targets.items():
                if target.progress in (Progress.CANCELLED, Progress.SKIPPED):
                    planned = Target(command=target.command, image=target.image, with_delta=target.with_delta)
                    effects.append(self._change(device, planned))
        if plan.requested == "paused":
            effects += self._cancel_all("the campaign was paused")
        return effects

    def _cancel_all(self, reason: str) -> Iterator[Effect]:
        """Cancel what has not restarted yet."""
        for device, target in self.targets.items():
            if target.progress in (Progress.OFFERED, Progress.FETCHING):
                yield self._end(device, target, Progress.CANCELLED, reason, cancelling=True)
            elif target.progress == Progress.PLANNED and target.deferral:
                yield self._change(device, target._replace(deferral=""), is_noted=False)

    def halt(self, reason: str) -> list[Effect]:
        """Stop without a request, until the campaign is started again."""
        self.stop = Stop(self.plan.run, reason)
        return [Stopped(), *self._cancel_all("the campaign stopped")]

    # --- messages of devices ------------------------------------------------------------------------------------------

    def requested(self, device: str, image: str) -> list[Effect]:
        """Process a request for a block: the device has got its command."""
        self._active(device)
        target = self.targets[device]
        if target.image != image or target.progress != Progress.OFFERED:
            return []
        return [self._change(device, target._replace(progress=Progress.FETCHING, deferral=""))]

    def status_received(self, device: str, status: Status) -> list[Effect]:
        """Process a status of a device. One that belongs to another command has no effect."""
        target = self.targets.get(device)
        is_known = status.state in _ENDS or status.state in _STEPS
        if target is None or not target.command or target.command != status.command or not is_known:
            return []
        target = target._replace(cancelling=target.cancelling and status.state not in _ENDS)
        effects: list[Effect] = []
        self._active(device)
        if status.state in _ENDS:
            effects.append(self._ended(device, target, status))
        elif target.progress in (Progress.PLANNED, Progress.CANCELLED) and status.state == "installed":
            # The request to cancel came too late.
            effects.append(self._in_trial(device, target))
        elif target.progress in ACTIVE:
            progress = Progress.INSTALLED if status.state == "installed" else Progress.FETCHING
            deferral = (status.reason or status.text or "busy") if status.state == "deferred" else ""
            effects.append(self._change(device, target._replace(progress=progress, deferral=deferral)))
        return effects + self._check_errors()

    def _active(self, device: str) -> None:
        """Remember that a device has sent something about its update."""
        self._sent[device] = _Sent(self._stepped_ms or 0, 0)

    def _ended(self, device: str, target: Target, status: Status) -> Effect:
        image = self._images.get(target.image)
        words = ": ".join(part for part in (status.state.replace("_", " "), status.reason, status.text) if part)
        if status.state == "confirmed":
            if image is not None and status.content == image.content:
                return self._end(device, target, Progress.CONFIRMED, "")
            return self._end(device, target, Progress.FAILED, f"confirmed, but runs {status.content}")
        if status.state == "cancelled":
            if target.progress in ACTIVE:
                return self._end(device, target, Progress.CANCELLED, words)
            return self._change(device, target, is_noted=False)  # the answer to `cancel`
        is_delta = image is not None and image.base is not None
        if status.state == "refused" and status.reason == "base" and is_delta and target.progress in ACTIVE:
            return self._change(device, Target(with_delta=False, used_ms=target.used_ms))
        if status.state == "refused" and status.reason == "busy" and target.progress in ACTIVE:
            return self._change(device, Target(deferral=IN_TRIAL, with_delta=target.with_delta, used_ms=target.used_ms))
        if target.progress in (*_UNALTERED, Progress.PLANNED) and status.state != "rolled_back":
            return self._change(device, target, is_noted=False)
        return self._end(device, target, Progress.FAILED, words)

    # --- time ---------------------------------------------------------------------------------------------------------

    def step(self, now_ms: int, devices: Devices) -> list[Effect]:
        """Process the passing of time."""
        elapsed_ms = 0 if self._stepped_ms is None else min(now_ms - self._stepped_ms, _STEP_MS_MAX)
        self._stepped_ms = now_ms
        effects: list[Effect] = []
        for device, target in self.targets.items():
            if target.cancelling and self._is_online(device, now_ms, devices):
                effects += self._cancel_again(device, target, now_ms)
        if self.is_running:
            end = self._open_end()
            for device in self.plan.devices[:end]:
                if self.targets[device].progress in OPEN:
                    effects += self._advance(device, now_ms, elapsed_ms, devices)
            effects += self._check_errors()
        if self.is_running:
            effects += self._offer_new(end, now_ms, devices)
        return effects

    def _is_online(self, device: str, now_ms: int, devices: Devices) -> bool:
        heard_ms = devices.heard_ms.get(device)
        return heard_ms is not None and now_ms - heard_ms < ONLINE_MS and device not in devices.bars

    def _cancel_again(self, device: str, target: Target, now_ms: int) -> Iterator[Effect]:
        sent = self._sent.get(device, _Sent(now_ms - RESEND_MS, 0))
        if sent.times >= CANCELS_MAX:
            yield self._change(device, target._replace(cancelling=False), is_noted=False)
        elif now_ms - sent.time_ms >= RESEND_MS:
            self._sent[device] = _Sent(now_ms, sent.times + 1)
            yield Cancel(device, target.command, target.image)

    def _advance(self, device: str, now_ms: int, elapsed_ms: int, devices: Devices) -> Iterator[Effect]:
        """Process the passing of time for a device that has not ended."""
        target = self.targets[device]
        if device in devices.bars:
            yield self._end(device, target, Progress.CANCELLED, "barred", target.command > 0)
            return
        deferral = self._hub_deferral(device, target, now_ms, devices)
        if deferral != target.deferral:
            target = target._replace(deferral=deferral)
            yield self._change(device, target, is_noted=False)
        is_timed = target.progress == Progress.INSTALLED or (target.progress in ACTIVE and not deferral)
        if not is_timed:
            return
        used_ms = target.used_ms + elapsed_ms
        if used_ms >= self.plan.limits.device_s * 1000:
            where = "silent since its restart" if target.progress == Progress.INSTALLED else target.progress.value
            yield self._end(device, target, Progress.FAILED, f"time limit: {where}", cancelling=True)
            return
        is_stored = used_ms // _STORE_MS != target.used_ms // _STORE_MS
        self.targets[device] = target = target._replace(used_ms=used_ms)
        if is_stored:
            yield self._change(device, target, is_noted=False)
        sent = self._sent.get(device)
        interval_ms = RESEND_MS if target.progress == Progress.OFFERED else STALLED_MS
        if target.progress != Progress.INSTALLED and (sent is None or now_ms - sent.time_ms >= interval_ms):
            self._sent[device] = _Sent(now_ms, 1)
            yield Offer(device, target.command, self._images[target.image], False)

    def _hub_deferral(self, device: str, target: Target, now_ms: int, devices: Devices) -> str:
        """Return why a device waits: what it has reported, or that the hub cannot reach it."""
        if target.progress == Progress.INSTALLED:
            return ""
        if target.deferral == IN_TRIAL:
            sent = self._sent.get(device)
            return IN_TRIAL if sent is not None and now_ms - sent.time_ms < TRIAL_MS else ""
        if target.deferral and target.deferral not in _HUB_DEFERRALS:
            return target.deferral
        if not self._is_online(device, now_ms, devices):
            return OFFLINE
        return NO_HELLO if target.progress == Progress.PLANNED and device not in devices.facts else ""

    def _offer_new(self, end: int, now_ms: int, devices: Devices) -> Iterator[Effect]:
        busy = sum(target.progress in ACTIVE and not target.deferral for target in self.targets.values())
        for device in self.plan.devices[:end]:
            target = self.targets[device]
            if target.progress != Progress.PLANNED or target.deferral:
                continue
            if busy >= self.plan.limits.parallel:
                return
            choice = choose(devices.facts[device], self.plan.images, target.with_delta)
            if choice.image is None:
                yield self._not_offered(device, target, choice.reason, devices.facts[device])
                continue
            command = self._allocate_command()
            if command is None:
                return
            busy += 1
            changed = target._replace(progress=Progress.OFFERED, command=command, image=choice.image.id)
            self._sent[device] = _Sent(now_ms, 1)
            yield self._change(device, changed)
            yield Offer(device, command, choice.image, True)

    def _not_offered(self, device: str, target: Target, reason: str, facts: DeviceFacts) -> Effect:
        """A device gets no image: it is skipped, unless it runs the one that an earlier start has sent it."""
        sent = self._images.get(target.image)
        if sent is not None and sent.content == facts.content:
            return self._in_trial(device, target)
        return self._end(device, target, Progress.SKIPPED, reason)

    def _in_trial(self, device: str, target: Target) -> Effect:
        """Wait for the end of a trial that the command of an earlier start has begun."""
        changed = target._replace(progress=Progress.INSTALLED, reason="", deferral="", cancelling=False)
        return self._change(device, changed)

    # --- waves and errors ---------------------------------------------------------------------------------------------

    def _open_end(self) -> int:
        """Return how many devices of the plan may be updated now: those of all waves that are open.

        A wave opens when each device of the waves before has ended or waits for something before its installation, and
        at least one was confirmed, unless none was to be updated since the start.
        """
        devices = self.plan.devices
        for end in self.plan.limits.waves:
            before = [self.targets[device] for device in devices[:end]]
            is_settled = all(target.progress not in OPEN or target.deferral for target in before)
            is_proved = any(target.progress == Progress.CONFIRMED for target in before)
            is_void = all(self._is_left_out(target) for target in before)
            if not is_settled or not (is_proved or is_void):
                return end
        return len(devices)

    def _is_left_out(self, target: Target) -> bool:
        """Return whether a device was not to be updated since the start."""
        has_failed_before = target.progress == Progress.FAILED and target.run != self.plan.run
        return target.progress in (Progress.SKIPPED, Progress.CANCELLED) or has_failed_before

    def _check_errors(self) -> list[Effect]:
        """Stop if too many of the devices that have ended since the start have failed, or all of the open waves."""
        if not self.is_running:
            return []
        run, limits = self.plan.run, self.plan.limits
        ended = [target for target in self.targets.values() if target.is_counted and target.run == run]
        failed = sum(target.progress == Progress.FAILED for target in ended)
        minimum = min(limits.minimum, len(self.plan.devices))
        if len(ended) >= minimum and failed * 100 > limits.error_pct * len(ended):
            of = plural(len(ended), "device")
            return self.halt(f"{failed} of {of} failed, more than {limits.error_pct} %")
        end = self._open_end()
        if end < len(self.plan.devices) and not any(
            self.targets[name].progress in OPEN for name in self.plan.devices[:end]
        ):
            return self.halt(f"{plural(end, 'device')} of the open waves ended, none was confirmed")
        return []

    def _end(self, device: str, target: Target, progress: Progress, reason: str, cancelling: bool = False) -> Effect:
        self._sent.pop(device, None)
        changed = target._replace(
            progress=progress, reason=reason, deferral="", run=self.plan.run, cancelling=target.cancelling or cancelling
        )
        return self._change(device, changed)

    def _change(self, device: str, target: Target, is_noted: bool = True) -> Effect:
        self.targets[device] = target
        return Changed(device, is_noted)
