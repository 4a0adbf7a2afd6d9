"""Verifies complete clips, one after the other, and answers their devices with clip_state.

`verified` lets a device delete its clip; `damaged` asks it to send the clip again, three times at most. Clips arrive in
any order: when a manifest is proven, the link of the next clip is checked again.
"""

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import patrolink_enums as enums

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.evidence import verdict, verify
from patrolink.evidence.clip_folders import manifest_name
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.evidence.manifest import Manifest
from patrolink.evidence.verdict import TAMPERED, UNVERIFIABLE, ChainLink, Finding, Signers
from patrolink.hub.clips.clip_feed import ClipFeed
from patrolink.hub.clips.clip_record import ClipKey, ClipRecord
from patrolink.hub.clips.clip_registry import ClipRegistry
from patrolink.hub.infra.metrics import Metrics

_RESENDS_MAX = 3  # requests to send a clip again
_U32_MAX = (1 << 32) - 1


class VerdictJob:
    """The queue of clips to verify, and the task that verifies them.

    Args:
        registry: The clips.
        signers: Public keys of each device; changes are seen.
        evidence: The site's evidence key, or None.
        feed: Shows changes to dispatchers.
        send_state: Sends a clip_state message: (device, values).
        audit: Records facts in the audit log: (who, what, **facts).
        metrics: Counters of the hub.
        clock: The hub's clock.
    """

    def __init__(
        self,
        registry: ClipRegistry,
        signers: Signers,
        evidence: EvidenceKey | None,
        feed: ClipFeed,
        send_state: Callable[[str, dict[str, Any]], None],
        audit: Callable[..., None],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._registry, self._signers, self._evidence, self._feed = registry, signers, evidence, feed
        self._send_state, self._audit, self._metrics, self._clock = send_state, audit, metrics, clock
        self._queue: asyncio.Queue[ClipKey] = asyncio.Queue()
        self._queued: set[ClipKey] = set()
        self._awaiting_answer: set[ClipKey] = set()  # their devices have sent everything and wait for clip_state
        for clip in registry.records():
            if clip.verdict in ("", UNVERIFIABLE):
                self.enqueue(clip)

    def enqueue(self, clip: ClipRecord, answer: bool = False) -> None:
        """Have a clip looked at.

        Args:
            clip: The clip.
            answer: Its device waits for a clip_state, even if the verdict is not new.
        """
        if answer:
            self._awaiting_answer.add(clip.key)
        if clip.key not in self._queued:
            self._queued.add(clip.key)
            self._queue.put_nowait(clip.key)

    async def run(self) -> None:
        """Look at queued clips until cancelled."""
        for clip in self._registry.records():
            if not clip.linked:  # the hub may have stopped just after the clip before was verified
                await self.guard(clip, self._check_link(clip))
        while True:
            key = await self._queue.get()
            self._queued.discard(key)
            queued = self._registry.get(key)
            if queued is not None:
                await self.guard(queued, self._process(queued))

    async def guard(self, clip: ClipRecord, work: Coroutine[Any, Any, None]) -> None:
        """Await work on a clip; log a failure, so that it does not stop the work on other clips."""
        try:
            await work
        except (OSError, UserError) as e:
            self._metrics.counts["storage_failed"] += 1
            self._audit(clip.device, "clip not verified", clip=clip.number, text=str(e))
        except Exception as e:
            self._metrics.counts["clips_not_verified"] += 1
            self._audit(clip.device, "clip not verified", clip=clip.number, text=f"{type(e).__name__}: {e}")
            traceback.print_exc()  # a defect: make it visible

    async def _process(self, clip: ClipRecord) -> None:
        answer, state = clip.key in self._awaiting_answer, 0
        self._awaiting_answer.discard(clip.key)
        if clip.accepted and not clip.changed:
            state = enums.CLIP_STATE_STATE_VERIFIED if answer else 0
        elif await asyncio.to_thread(clip.is_complete):
            state = await self._verify(clip)
        elif answer and clip.resends < _RESENDS_MAX:  # the hub's answer, or its storage, was lost
            clip.resends += 1
            state = enums.CLIP_STATE_STATE_DAMAGED
        try:
            await asyncio.to_thread(clip.save)
        finally:  # the files are on storage: a verdict that is not can be found again
            if state:
                self._answer(clip, state)
        if clip.manifest_proven:
            following = self._registry.following(clip)
            if following is not None:
                await self._check_link(following)

    async def _verify(self, clip: ClipRecord) -> int:
        """Verify a complete clip; return the clip_state to answer with, 0 for none."""
        old_verdict, clip.changed = clip.verdict, False
        result, links = await asyncio.to_thread(self._find, clip)
        clip.set_findings(result.findings)
        clip.set_link_findings(links)
        clip.verdict_ms = self._clock.unix_ms()
        self._metrics.counts[f"clips {clip.verdict}"] += 1
        if clip.verdict != old_verdict:
            self._audit_verdict(clip)
        state = 0
        if clip.accepted:
            self._apply_drops(clip, result.manifest)
            state = enums.CLIP_STATE_STATE_VERIFIED
        elif clip.verdict == TAMPERED and clip.resends < _RESENDS_MAX:
            state = await self._quarantine(clip)
        self._feed.publish(clip)
        return state

    async def _quarantine(self, clip: ClipRecord) -> int:
        """Set altered files aside; return the clip_state to answer with."""
        if not await asyncio.to_thread(clip.quarantine, clip.verdict_ms):
            return 0
        if await asyncio.to_thread(clip.is_complete):  # only surplus files were set aside
            self.enqueue(clip)
            return 0
        clip.resends += 1
        return enums.CLIP_STATE_STATE_DAMAGED

    def _find(self, clip: ClipRecord) -> tuple[verify.ClipVerdict, list[Finding]]:
        """Return the result for a clip without its links, and the findings about its link. Runs in a thread."""
        result = verify.verify_clip(clip.folder, self._signers, self._evidence)
        result.findings += verdict.check_announcement(result.manifest, manifest_name(clip.number), clip.announcement)
        return result, self._find_link(clip) or []

    async def _check_link(self, clip: ClipRecord) -> None:
        """Check the link of a verified clip again after the clip before changed. Only two manifests are read."""
        if not clip.verdict:
            return
        old_verdict, links = clip.verdict, await asyncio.to_thread(self._find_link, clip)
        if links is not None and clip.set_link_findings(links):
            if clip.verdict != old_verdict:
                self._audit_verdict(clip)
            await asyncio.to_thread(clip.save)
            self._feed.publish(clip)

    def _find_link(self, clip: ClipRecord) -> list[Finding] | None:
        """Return the findings about the link to the clip before; None until the clip's own manifest arrives."""
        previous, manifest = self._registry.previous(clip), clip.read_manifest()
        if manifest is None:
            return None
        previous_manifest = previous.read_manifest() if previous is not None and previous.manifest_proven else None
        previous_link = None
        if previous is not None and previous_manifest is not None:
            previous_link = ChainLink(previous.folder.name, previous.number, previous_manifest)
        return verdict.check_link(ChainLink(clip.folder.name, clip.number, manifest), previous_link)

    def _apply_drops(self, clip: ClipRecord, manifest: Manifest) -> None:
        """Mark files that a proven manifest records as deleted: clips are complete without them."""
        for drop in verdict.dropped_segments(manifest):
            if not 0 <= drop.clip < clip.number or self._registry.is_full(clip.device):
                continue
            earlier = self._registry.record(clip.device, drop.clip)
            if not earlier.accepted and not set(earlier.dropped_files).issuperset(drop.files):
                earlier.dropped_files += drop.files
                self.enqueue(earlier)

    def _audit_verdict(self, clip: ClipRecord) -> None:
        findings = clip.findings_json()
        self._audit(clip.device, "clip verified", clip=clip.number, verdict=clip.verdict, findings=findings)

    def _answer(self, clip: ClipRecord, state: int) -> None:
        received = min(sum(clip.file_sizes.values()), _U32_MAX)
        values = {"clip_id": clip.number, "state": state, "bytes_done": received, "time_ms": self._clock.unix_ms()}
        self._send_state(clip.device, values)
