"""Composition of a hub's clips: upload server, intake, verdicts, access, retention."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from patrolink.core.clock import Clock
from patrolink.core.keys import DeviceKey
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.hub.clips.clip_access import ClipAccess
from patrolink.hub.clips.clip_feed import ClipFeed
from patrolink.hub.clips.clip_intake import ClipIntake
from patrolink.hub.clips.clip_registry import ClipRegistry
from patrolink.hub.clips.retention import ClipRetention
from patrolink.hub.clips.signer_registry import SignerRegistry
from patrolink.hub.clips.tus_server import TusServer
from patrolink.hub.clips.upload_authorization import UploadAuthorization
from patrolink.hub.clips.upload_store import UploadStore
from patrolink.hub.clips.verdict_job import VerdictJob
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.retention_ledger import RetentionLedger


class ClipService:
    """The parts that handle clips at a hub; callers use the parts.

    Attributes:
        registry: The clips.
        signers: The devices' signing keys.
        uploads: The HTTP server of uploads; attach it to an application.
        intake: Takes clip_manifest messages.
        verdicts: Verifies clips; `verdicts.run()` is its task.
        access: Files, pictures, preservation and the access log.
        feed: Rows of clips.
        retention: Deletes old clips.

    Args:
        folder: The site's folder of clips.
        bytes_max: Bytes that the clips of one device may take.
        ledger: Decides which clips are deleted.
        evidence: The site's evidence key, or None.
        device_key: Returns a device's key in its current epoch; None for a device that is not of this site.
        send_state: Sends a clip_state message: (device, values).
        notify: Sends a message to all dispatchers.
        audit: Records facts in the audit log: (who, what, **facts).
        metrics: Counters of the hub.
        clock: The hub's clock.
    """

    def __init__(
        self,
        folder: Path,
        bytes_max: int,
        ledger: RetentionLedger,
        evidence: EvidenceKey | None,
        device_key: Callable[[str], DeviceKey | None],
        send_state: Callable[[str, dict[str, Any]], None],
        notify: Callable[[dict[str, Any]], None],
        audit: Callable[..., None],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        store = UploadStore(folder, bytes_max)
        self.registry = registry = ClipRegistry(folder)
        self.signers = SignerRegistry(folder, audit, notify, metrics)
        self.feed = ClipFeed(registry, store, evidence is not None, notify)
        self.verdicts = VerdictJob(
            registry, self.signers.signers, evidence, self.feed, send_state, audit, metrics, clock
        )
        self.intake = ClipIntake(registry, self.signers, self.verdicts, self.feed, audit, metrics)
        authorization = UploadAuthorization(device_key, clock)
        self.uploads = TusServer(store, authorization, self.intake, metrics, audit)
        self.access = ClipAccess(folder, registry, evidence, self.feed, audit, clock)
        self.retention = ClipRetention(registry, store, ledger, self.access, self.feed, clock)
        metrics.gauges["clips"] = registry.__len__
