"""The clip service of a hub without sockets, and clips of a device."""

import asyncio
import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patrolink.core.clock import SystemClock
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.hub.clips.clip_service import ClipService
from patrolink.hub.clips.upload_store import ClipFile
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.retention_ledger import RetentionLedger

from tests.support import clip_maker, upload_clients

DEVICE = upload_clients.DEVICE
_TIMEOUT_S = 30


@dataclass
class RecordedClips:
    """Clips of a device: 1 from the button, 2 from an SOS, 3 a snapshot, 4 from a dispatcher.

    Args:
        device: The device.
        folder: The folder that holds `clips`.
        announcements: The clip_manifest message of each clip, as the hub's decoder returns it.
    """

    device: clip_maker.Device
    folder: Path
    announcements: dict[int, dict[str, Any]]

    def clip(self, number: int) -> Path:
        """Return the folder of a clip."""
        return self.folder / "clips" / DEVICE / f"{number:06d}"


def record_clips(folder: Path) -> RecordedClips:
    """Record the clips and write them to a folder."""
    device = clip_maker.make(folder / "clips", DEVICE)
    announcements = {}
    for number in (1, 2, 3, 4):
        values = upload_clients.manifest_values(device.clip_store, number)
        fields = {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()}
        announcements[number] = {**fields, "device": DEVICE}
    return RecordedClips(device, folder, announcements)


class ClipServiceHarness:
    """A hub's ClipService with its verdict job running.

    Attributes:
        states: (clip, state) of each clip_state message sent.
        messages: The messages to dispatchers.

    Args:
        folder: The hub's folder.
        evidence: The evidence key, or None.
        audit_path: Path of the audit log; by default it is in the folder.
    """

    def __init__(self, folder: Path, evidence: EvidenceKey | None = None, audit_path: Path | None = None) -> None:
        self.clips_folder, self.metrics = folder / "clips", Metrics()
        self.states: list[tuple[int, int]] = []
        self.messages: list[dict[str, Any]] = []
        audit = AuditLog(audit_path or folder / "audit.jsonl", SystemClock(), self.metrics).note
        self.service = ClipService(
            self.clips_folder,
            1 << 30,
            RetentionLedger(folder / "retention-clips.json", 30),
            evidence,
            lambda name: None,
            self._record_state,
            self.messages.append,
            audit,
            self.metrics,
            SystemClock(),
        )
        self.registry = self.service.registry
        self._task = asyncio.ensure_future(self.service.verdicts.run())

    def _record_state(self, device: str, values: dict[str, Any]) -> None:
        self.states.append((values["clip_id"], values["state"]))

    async def receive(self, source: Path, number: int, *names: str) -> None:
        """Store files of a clip as an upload does.

        Args:
            source: Folder of the clip.
            number: Number of the clip.
            *names: Names of the files; by default all.
        """
        folder = self.clips_folder / DEVICE / f"{number:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in names or sorted(os.listdir(source)):
            shutil.copy(source / name, folder / name)
            await self.service.intake.file_stored(ClipFile(DEVICE, number, name))

    async def wait_idle(self) -> dict[int, dict[str, Any]]:
        """Wait until the verdict job is idle; return the rows of all clips by number."""
        job, deadline = self.service.verdicts, time.monotonic() + _TIMEOUT_S
        while not self._task.done() and (job._queued or job._queue.qsize() or not self._is_idle()):
            assert time.monotonic() < deadline, job._queued
            await asyncio.sleep(0.01)
        assert not self._task.done(), self._task
        return {row["clip"]: row for row in self.service.feed.newest(1000)}

    def _is_idle(self) -> bool:
        """Return whether the job is waiting for the queue."""
        coroutine = self._task.get_coro().cr_await
        return coroutine is not None and getattr(coroutine, "__qualname__", "") == "Queue.get"

    async def kill(self) -> None:
        """Cancel the verdict job at its current step."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
