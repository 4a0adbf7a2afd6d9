"""Takes what devices send about clips: clip_manifest announcements, and uploaded files."""

import asyncio
from collections.abc import Callable

from patrolink.core.decoder import Row
from patrolink.evidence.manifest import CLIP_NUMBER_MAX
from patrolink.evidence.verdict import NOTE, UNVERIFIABLE, Finding
from patrolink.hub.clips.clip_feed import ClipFeed
from patrolink.hub.clips.clip_record import ClipKey
from patrolink.hub.clips.clip_registry import ClipRegistry
from patrolink.hub.clips.signer_registry import SignerRegistry
from patrolink.hub.clips.upload_store import ClipFile
from patrolink.hub.clips.verdict_job import VerdictJob
from patrolink.hub.infra.metrics import Metrics


class ClipIntake:
    """Updates clip records and queues them for verification. It is the `UploadEvents` of the upload server.

    Args:
        registry: The clips.
        signers: The devices' signing keys.
        job: Verifies clips.
        feed: Shows changes to dispatchers.
        audit: Records facts in the audit log: (who, what, **facts).
        metrics: Counters of the hub.
    """

    def __init__(
        self,
        registry: ClipRegistry,
        signers: SignerRegistry,
        job: VerdictJob,
        feed: ClipFeed,
        audit: Callable[..., None],
        metrics: Metrics,
    ) -> None:
        self._registry, self._signers, self._job, self._feed = registry, signers, job, feed
        self._audit, self._metrics = audit, metrics

    def announce(self, row: Row) -> None:
        """Take a clip_manifest message that was authenticated by the device's tag."""
        device, number = row["device"], row["clip_id"]
        accepted = self._registry.get(ClipKey(device, number)) is not None or not self._registry.is_full(device)
        if not 0 <= number <= CLIP_NUMBER_MAX or not accepted or not self._signers.pin(device, row["signer"]):
            self._metrics.refused["clip"] += 1
            return
        clip = self._registry.record(device, number)
        announcement = {name: value for name, value in row.items() if name not in ("counter", "time", "record")}
        repeated = bool(clip.announcement)
        if repeated and any(clip.announcement[name] != announcement[name] for name in ("chain", "signer")):
            # The first announcement counts: the clip's files are checked against it. The other one gets no answer.
            if clip.conflicting_chain != announcement["chain"]:
                clip.conflicting_chain = announcement["chain"]
                chains = {"chain": announcement["chain"], "before": clip.announcement["chain"]}
                self._audit(device, "clip told otherwise", clip=number, **chains)
            return
        clip.announcement = announcement
        clip.changed |= clip.chain != announcement["chain"]  # verified before the announcement arrived
        if not repeated or clip.verdict != UNVERIFIABLE:
            self._job.enqueue(clip, answer=repeated)
        self._feed.publish(clip)
        if not repeated:
            self._feed.publish_missing(clip.key)

    async def file_stored(self, file: ClipFile) -> None:
        """Add a file that is complete and on storage."""
        clip = self._registry.record(file.device, file.clip)
        repeated = file.name in clip.file_sizes
        clip.changed |= not repeated
        await self._job.guard(clip, asyncio.to_thread(clip.add_file, file.name))
        # A device that uploads an accepted clip again has not received the answer.
        self._job.enqueue(clip, answer=repeated and clip.accepted)
        self._feed.publish(clip)

    def upload_progressed(self, file: ClipFile) -> None:
        """Show how much of a clip has arrived."""
        self._feed.publish_progress(self._registry.record(file.device, file.clip).key)

    def upload_damaged(self, file: ClipFile) -> None:
        """Show that a file arrived with the wrong SHA-256 and was deleted."""
        clip = self._registry.record(file.device, file.clip)
        if not clip.verdict:
            words = "the upload arrived with another SHA-256 than announced; the device sends it again"
            clip.findings = [finding for finding in clip.findings if finding.where != file.name]
            clip.findings.append(Finding(NOTE, "upload", file.name, words))
        self._feed.publish(clip)
