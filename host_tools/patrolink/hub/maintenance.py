"""Periodic work of a hub on its storage: deletes what is too old, and writes what waits in memory."""

import asyncio
from pathlib import Path

from patrolink.core.clock import Clock
from patrolink.hub.clips.retention import ClipRetention
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.incidents.service import IncidentService
from patrolink.hub.infra import persistence
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.replay_store import ReplayStore
from patrolink.hub.infra.retention_ledger import RunningTimeCounter
from patrolink.hub.infra.threads import run_to_end
from patrolink.hub.recordings import Recordings
from patrolink.hub.voice_proxy import VoiceProxy

_PURGE_S = 600
_FLUSH_S = 10  # what a power cut can take from the replay windows; the end of the process takes nothing


class Maintenance:
    """The jobs. A failure of storage is counted and shown to dispatchers, and work is repeated later.

    Args:
        state: Folder of the hub's state. It gets a reserve of space, see infra/persistence.py.
        clips: None if this hub takes no clips.
    """

    def __init__(
        self,
        state: Path,
        voice: VoiceProxy,
        recordings: Recordings,
        clips: ClipRetention | None,
        replay: ReplayStore,
        incidents: IncidentService,
        audit: AuditLog,
        dispatchers: Broadcaster,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._state, self._voice = state, voice
        self._recordings, self._clips, self._replay = recordings, clips, replay
        self._incidents, self._audit, self._dispatchers, self._metrics = incidents, audit, dispatchers, metrics
        self._running_time = RunningTimeCounter(state / "running-time.json", clock)
        self._reserve_bytes = persistence.fill_reserve(state)
        self._failures = 0  # of storage, that dispatchers know
        metrics.gauges["reserve_bytes"] = lambda: self._reserve_bytes

    async def purge(self) -> None:
        """Delete recordings and clips that are older than the retention, until cancelled."""
        while True:
            running_ms, jump_ms = self._running_time.advance()
            if jump_ms:
                self._report_clock_jump(jump_ms)
            try:
                await self._recordings.purge(running_ms)
                if self._clips is not None:
                    await self._clips.purge(running_ms)
                await run_to_end(self._running_time.save)
            except OSError:
                self._metrics.counts["storage_failed"] += 1
            await asyncio.sleep(_PURGE_S)

    async def flush(self) -> None:
        """Write replay windows, and what could not be written before, until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_S)
            try:
                await run_to_end(self._replay.flush)
            except OSError:
                self._metrics.counts["storage_failed"] += 1
            self._reserve_bytes = await run_to_end(lambda: persistence.fill_reserve(self._state))
            self.write_waiting()
            failures = (await self._voice.metrics()).counts.get("storage_failed", 0)
            if failures > self._failures:
                self._failures = failures
                text = "the hub's storage is full or fails: recordings are lost and clips are refused; free some space"
                self._dispatchers.broadcast({"type": "notice", "id": "storage", "text": text})

    def write_waiting(self) -> None:
        """Write alarms and audit rows that could not be written before. Blocks on storage."""
        self._incidents.retry_save()
        self._audit.flush()

    def _report_clock_jump(self, jump_ms: int) -> None:
        self._metrics.counts["clock_jumps"] += 1
        self._audit.note("", "clock jumped", by_ms=jump_ms)
        text = f"the hub's clock jumped by {jump_ms // 1000} s; check it, times of recordings and alarms may be wrong"
        self._dispatchers.broadcast({"type": "notice", "id": "clock", "text": text})
