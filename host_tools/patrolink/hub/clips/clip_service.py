"""The clips of a site: who signs them, what the verdict is, what devices and desks are told; and who looked at them.

A device's first `clip_manifest` pins its signing key (`<clips>/signers.toml`); another one is taken only under the
device's tag as well, and is told to all. A clip whose files are all here is verified in a thread, one after the other;
`clip_state` `verified` lets the device release it, `damaged` has it send the clip again, three times at most. A device
that has not heard tells its clip again, and is told again. Clips come in any order: whenever one is proven to be its
device's, the one after it is held to it.
"""

import asyncio
import bisect
import contextlib
import heapq
import threading
import traceback
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn

from patrolink.core.clock import unix_ms
from patrolink.core.decoder import Row
from patrolink.core.errors import UserError
from patrolink.evidence import segment, verify
from patrolink.evidence.evidence_key import EvidenceKey
from patrolink.evidence.findings import NOTE, TAMPERED, UNVERIFIABLE, Finding
from patrolink.hub.clips import clip_record
from patrolink.hub.clips.access_log import Access
from patrolink.hub.clips.clip_record import Clip
from patrolink.hub.clips.tus_server import NAME, Uploads
from patrolink.hub.infra import persistence
from patrolink.hub.infra.coalescer import Coalescer
from patrolink.hub.infra.metrics import Metrics

SIGNERS = "signers.toml"
_DELETED = "deleted.json"  # of each device the highest number that retention took
_VERIFIED, _DAMAGED = 5, 7  # clip_state.state
_AGAIN = 3  # times that a device is told to send a clip again
_GONE = 100  # numbers left out that are shown, of those between two clips
_MOST = 20_000  # clips of a device
_SIGNERS = 16  # keys of a device
_AT_ONCE = 50  # clips that are listed without a pause
_DAY_MS = 86_400_000

Key = tuple[str, int]


class Clips:
    """
    state_of  function(device, values): sends clip_state to a device
    tell      function(message): to all desks
    audit     function(who, what, **facts)
    """

    def __init__(
        self, folder: Path, uploads: Uploads, evidence: EvidenceKey | None, metrics: Metrics, audit: Callable[..., None]
    ) -> None:
        self._folder, self._uploads, self._evidence = folder, uploads, evidence
        self._metrics, self._audit = metrics, audit
        self._opening = threading.Lock()  # the evidence key
        self.state_of: Callable[[str, dict[str, Any]], None] = lambda device, values: None
        self.tell: Callable[[dict[str, Any]], None] = lambda message: None
        self._clips: dict[Key, Clip] = {}
        self._numbers: dict[str, list[int]] = defaultdict(list)  # of each device's clips, in order
        for path in sorted(folder.glob("*/[0-9][0-9][0-9][0-9][0-9][0-9]")):
            self._clips[path.parent.name, int(path.name)] = clip_record.load(path)
            self._numbers[path.parent.name].append(int(path.name))
        there = folder / SIGNERS
        self._signers = verify.signers(there) if there.exists() else {}
        self._deleted: dict[str, int] = {}
        with contextlib.suppress(UserError):  # it only spares rows
            self._deleted = persistence.load_json(folder / _DELETED) or {}
        self._waiting: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._asked: set[Key] = set()  # their devices believe all of them to be here, and wait to hear of them
        self._moving = Coalescer[Key](lambda key: [self._row(it) for it in self._known(key)], self._tell_clip)
        self._gaps = Coalescer[Key](
            lambda key: [row for it in self._known(key) for row in self._left_out(it)], self._tell_clip
        )
        self.access: Access | None = None
        self._no_access = ""
        try:
            self.access = Access(folder / "access.jsonl")
        except UserError as e:
            self._no_access = str(e)
            self._audit("", "access log refused", text=self._no_access)
        uploads.taken, uploads.moved, uploads.spoilt = self._taken, self._moved, self._spoilt
        metrics.gauges["clips"] = lambda: len(self._clips)
        for key, it in self._clips.items():
            if it.verdict in ("", UNVERIFIABLE):
                self._look_at(key)

    # --- what devices say and send ------------------------------------------------------------------------------------

    def manifest(self, row: Row) -> None:
        """A clip_manifest has come under the device's tag."""
        device, number = row["device"], row["clip_id"]
        known = (device, number) in self._clips or len(self._numbers[device]) < _MOST
        if not 0 <= number < 1_000_000 or not known or not self._pin(device, row["signer"]):
            self._metrics.refused["clip"] += 1
            return
        it = self._clip(device, number)
        told = {name: value for name, value in row.items() if name not in ("counter", "time", "message")}
        again = bool(it.told)
        if again and (it.told["chain"], it.told["signer"]) != (told["chain"], told["signer"]):
            # The first one stands: the clip that comes is held to it. Of the other one nothing is said.
            if it.other != told["chain"]:
                it.other = told["chain"]
                self._audit(device, "clip told otherwise", clip=number, chain=told["chain"], before=it.told["chain"])
            return
        it.told = told
        it.anew |= it.chain != told["chain"]  # it was judged before its device had told of it
        if not again or it.verdict != UNVERIFIABLE:
            if again:
                self._asked.add((device, number))
            self._look_at((device, number))
        self._show(it)
        if not again:
            self._gaps.add((device, number))

    def _pin(self, device: str, signer: str) -> bool:
        """Believe that a device signs with this key; False when it has told too many."""
        known = self._signers.setdefault(device, [])
        if signer in known or len(known) >= _SIGNERS:
            return signer in known
        what = "signer changed" if known else "signer"
        self._audit(device, what, signer=signer, known=list(known))
        known.append(signer)
        lines = [f'"{name}" = {keys}'.replace("'", '"') for name, keys in sorted(self._signers.items()) if keys]
        try:
            persistence.replace_file(self._folder / SIGNERS, ("[signers]\n" + "\n".join(lines) + "\n").encode())
        except OSError:  # after a restart it is not known; the device tells its clips until it has heard of them
            self._metrics.counts["storage_failed"] += 1
        if what == "signer changed":
            self.tell({"type": "signer", "device": device, "signer": signer})
        return True

    def _clip(self, device: str, number: int) -> Clip:
        it = self._clips.get((device, number))
        if it is None:
            it = self._clips[device, number] = Clip(device, number, self._folder / device / f"{number:06d}")
            bisect.insort(self._numbers[device], number)
        return it

    async def _taken(self, device: str, number: int, name: str) -> None:
        it = self._clip(device, number)
        if name not in it.sizes:
            it.anew = True
        elif it.right:  # its device begins anew: it has not heard
            self._asked.add((device, number))
        await self._guarded(it, asyncio.to_thread(it.take, name))
        self._look_at((device, number))
        self._show(it)

    def _spoilt(self, device: str, number: int, name: str) -> None:
        it = self._clip(device, number)
        if not it.verdict:
            words = "it came with other bytes than were recorded, and has to come again"
            others = [one for one in it.findings if one["where"] != name]
            it.findings = [*others, Finding(NOTE, "upload", name, words).facts()]
        self._show(it)

    def _moved(self, device: str, number: int) -> None:
        self._clip(device, number)
        self._moving.add((device, number))

    def _look_at(self, key: Key) -> None:
        if key not in self._queued:
            self._queued.add(key)
            self._waiting.put_nowait(key)

    # --- verdicts -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Verify what comes, one clip after the other."""
        for it in list(self._clips.values()):
            if not it.linked:  # the hub may have been stopped when the one before had just come
                await self._guarded(it, self._relink(it))
        while True:
            key = await self._waiting.get()
            self._queued.discard(key)
            if key in self._clips:
                await self._guarded(self._clips[key], self._judge(self._clips[key]))

    async def _guarded(self, it: Clip, job: Coroutine[Any, Any, None]) -> None:
        """Do it; what goes wrong with one clip keeps no other one waiting."""
        try:
            await job
        except (OSError, UserError) as e:
            self._metrics.counts["storage_failed"] += 1
            self._audit(it.device, "clip not verified", clip=it.number, text=str(e))
        except Exception as e:
            self._metrics.counts["clips_not_verified"] += 1
            self._audit(it.device, "clip not verified", clip=it.number, text=f"{type(e).__name__}: {e}")
            traceback.print_exc()  # a bug, and it shows

    async def _judge(self, it: Clip) -> None:
        key = it.device, it.number
        asked, say = key in self._asked, 0
        self._asked.discard(key)
        if it.right and not it.anew:
            say = _VERIFIED if asked else 0
        elif await asyncio.to_thread(it.complete):
            say = await self._verify(it)
        elif asked and it.damaged < _AGAIN:  # what the hub told it, or had of it, is lost
            it.damaged += 1
            say = _DAMAGED
        try:
            await asyncio.to_thread(it.save)
        finally:  # its files are at rest: a verdict that is not can be found again
            if say:
                self._say(it, say)
        if it.proven:
            after = self._beside(it, 1)
            if after is not None:
                await self._relink(after)

    async def _verify(self, it: Clip) -> int:
        """Judge a clip whose files are here; return the state that its device is told, 0 for none."""
        before, it.anew = it.verdict, False
        found, links = await asyncio.to_thread(self._verdict, it)
        it.findings = [finding.facts() for finding in found.findings]
        it.link(links)
        it.ended_ms = unix_ms()
        self._metrics.counts[f"clips {it.verdict}"] += 1
        if it.verdict != before:
            self._told_verdict(it)
        say = 0
        if it.right:
            self._thinned(it, found.manifest.accesses)
            say = _VERIFIED
        elif it.verdict == TAMPERED and it.damaged < _AGAIN and await asyncio.to_thread(it.set_aside, it.ended_ms):
            if await asyncio.to_thread(it.complete):  # what was too much is gone, and nothing is missing
                self._look_at((it.device, it.number))
            else:
                it.damaged += 1
                say = _DAMAGED
        self._show(it)
        return say

    async def _relink(self, it: Clip) -> None:
        """Hold a clip that was judged to the one before it, which has come since: no file is read but two manifests."""
        if not it.verdict:
            return
        was, links = it.verdict, await asyncio.to_thread(self._links, it)
        if links is not None and it.link(links):
            if it.verdict != was:
                self._told_verdict(it)
            await asyncio.to_thread(it.save)
            self._show(it)

    def _told_verdict(self, it: Clip) -> None:
        self._audit(it.device, "clip verified", clip=it.number, verdict=it.verdict, findings=it.findings[:20])

    def _thinned(self, by: Clip, accesses: list[dict[str, Any]]) -> None:
        """Take what a device tells that it dropped for want of room: those clips are all here without it."""
        for said in accesses:
            number, stems = said.get("clip"), said.get("segs")
            if said["access"] == "thinned" and isinstance(number, int) and isinstance(stems, list):
                if not 0 <= number < by.number or len(self._numbers[by.device]) >= _MOST:
                    continue
                it = self._clip(by.device, number)
                names = [f"{stem}.pls" for stem in stems]
                if not it.right and not {*it.thinned}.issuperset(names):
                    it.thinned += names
                    self._look_at((by.device, number))

    def _verdict(self, it: Clip) -> tuple[verify.Verdict, list[Finding]]:
        """Return what is found of a clip by itself, and between it and the one before. For a thread."""
        with self._opening:
            found = verify.clip(it.folder, self._signers, self._evidence)
        found.findings += it.against_told(found.manifest)
        return found, self._links(it) or []

    def _links(self, it: Clip) -> list[Finding] | None:
        """Return what is found between a clip and the one before; None while its own manifest is not here."""
        before, own = self._beside(it, -1), it.read()
        if own is None:
            return None
        this = verify.Verdict(it.folder, it.number, own)
        said = before.read() if before is not None and before.proven else None
        verify.link([verify.Verdict(before.folder, before.number, said), this] if before and said else [this])
        return [one for one in this.findings if one.kind == "chain"]

    def _beside(self, it: Clip, step: int) -> Clip | None:
        """Return the clip before (-1) or after (1), of those of its device that are known."""
        numbers = self._numbers[it.device]
        at = bisect.bisect_left(numbers, it.number) + step
        return self._clips[it.device, numbers[at]] if 0 <= at < len(numbers) else None

    def _say(self, it: Clip, told: int) -> None:
        values = {"clip_id": it.number, "state": told, "bytes_done": min(sum(it.sizes.values()), (1 << 32) - 1)}
        self.state_of(it.device, {**values, "time_ms": unix_ms()})

    # --- dispatchers --------------------------------------------------------------------------------------------------

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """Return clips as desks see them, newest first; a number that a device left out stands behind the next."""
        found = heapq.nlargest(limit, self._clips.values(), key=_when)
        return [row for it in found for row in (self._row(it), *self._left_out(it))][:limit]

    async def rows(self) -> AsyncIterator[dict[str, Any]]:
        """Give all clips as `newest` does, with `files`: name and bytes. Voice has its turn in between."""
        for n, it in enumerate(sorted(self._clips.values(), key=_when, reverse=True)):
            files = [{"name": name, "bytes": size} for name, size in sorted(it.sizes.items())]
            yield {**self._row(it), "files": files}
            for left_out in self._left_out(it):
                yield {**left_out, "files": []}
            if n % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _left_out(self, it: Clip) -> list[dict[str, Any]]:
        """Return rows of the numbers between a clip and the one before it, of which nothing has come."""
        before = self._beside(it, -1)
        first = max(before.number, self._deleted.get(it.device, -1), it.number - 1 - _GONE) + 1 if before else it.number
        left = range(first, it.number)
        facts = {"device": it.device, "state": "missing", "time_ms": it.start_ms or None, "verdict": ""}
        return [{**facts, "clip": number} for number in left]

    def _row(self, it: Clip) -> dict[str, Any]:
        return it.row(self._uploads.coming(it.device, it.number), self._evidence is not None)

    def _show(self, it: Clip) -> None:
        self._tell_clip(self._row(it))

    def _tell_clip(self, row: dict[str, Any]) -> None:
        self.tell({"type": "clip", **row})

    def _known(self, key: Key) -> list[Clip]:
        return [self._clips[key]] if key in self._clips else []

    def look(self, who: str, what: str, **facts: Any) -> None:
        """Write down who does what, before it is done; UserError when it cannot be."""
        if self.access is None:
            raise UserError(f"nobody may look at clips while it cannot be written down: {self._no_access}")
        self.access.write(who, what, **facts)

    def get(self, device: str, number: int) -> Clip:
        """Return a clip; UserError when there is none."""
        it = self._clips.get((device, number))
        if it is None:
            self._none(f"no clip {number} of {device!r} is here")
        return it

    def file(self, device: str, number: int, name: str) -> Path:
        """Return where a file of a clip is; UserError when it is not here."""
        it = self.get(device, number)
        if not NAME.fullmatch(name) or name not in it.sizes:
            self._none(f"clip {number} of {device} has no file {name[:40]!r} here")
        return it.folder / name

    @property
    def signers(self) -> Path:
        """Where the keys are that devices sign with."""
        return self._folder / SIGNERS

    def picture(self, device: str, number: int) -> bytes:
        """Return a clip's picture, a JPEG, deciphered in memory; for a thread. UserError when there is none to see."""
        it = self.get(device, number)
        if self._evidence is None:
            self._none("this hub has no evidence key, so it shows no pictures")
        if not it.picture:
            self._none(f"clip {number} of {device} has no picture here")
        with self._opening:
            found = segment.read(it.folder / it.picture, self._evidence)
        return found.file()

    def _none(self, text: str) -> NoReturn:
        raise UserError(text)

    def preserve(self, device: str, number: int) -> None:
        """Keep a clip here over its retention."""
        it = self.get(device, number)
        it.kept = True
        it.save()
        self._show(it)

    # --- retention ----------------------------------------------------------------------------------------------------

    async def purge(self, days: int) -> None:
        """Delete what is older than the site keeps, and nobody wanted kept; each is written down first.

        Of a clip that never came whole the time counts when something of it came last.
        """
        limit_ms = unix_ms() - days * _DAY_MS
        for key, it in list(self._clips.items()):
            if it.kept or await asyncio.to_thread(it.since_ms) >= limit_ms:
                continue
            with contextlib.suppress(UserError):  # not written down: it stays
                facts = {"device": it.device, "clip": it.number, "verdict": it.verdict}
                await asyncio.to_thread(self.look, "retention", "deleted", **facts)
                del self._clips[key]
                self._numbers[it.device].remove(it.number)
                self._deleted[it.device] = max(it.number, self._deleted.get(it.device, -1))
                await asyncio.to_thread(persistence.save_json, self._folder / _DELETED, dict(self._deleted))
                await self._uploads.delete(it.device, it.number)
                self.tell({"type": "clip gone", "device": it.device, "clip": it.number})


def _when(it: Clip) -> tuple[int, int]:
    return it.start_ms, it.number
