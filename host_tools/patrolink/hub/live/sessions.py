"""Live views as dispatchers have them: one a device, and those who watch it.

The first who watches has the device asked for it, the last who goes has it told to stop. All desks are told that a view
is on, whose it is and who watches. A page is shown JPEGs, the newest when it is slow; a tool gets the RTP packets.
"""

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from patrolink.core.clock import unix_ms
from patrolink.core.errors import UserError
from patrolink.hub.config import HubConfig
from patrolink.hub.dispatch.commands import SentCommand
from patrolink.hub.dispatch.messages import LiveFormat, LiveFrame
from patrolink.hub.dispatch.session import DispatcherSession
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.live.jpeg_transcoder import Jpegs
from patrolink.hub.live.receiver import LiveViews, Picture, View, now_ms
from patrolink.hub.voice.groups import Device

MOST_VIEWS = MOST_WATCHERS = 8
_GRACE_MS = 3000  # for the device to end it first


class Watching:
    """
    command  function(operator, device, action, number, name, value), sends it
    audit    function(who, what, **facts)
    tell     function(message), tells all desks
    """

    def __init__(
        self,
        place: HubConfig,
        metrics: Metrics,
        devices: Mapping[str, Device],
        command: Callable[[str, str, str, int | None, str, str], SentCommand],
        audit: Callable[..., None],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self.metrics, self.pool = metrics, ThreadPoolExecutor(1, "live")
        self._devices, self._command, self._audit, self._tell = devices, command, audit, tell
        self._views = LiveViews(place.listen, place.live_port, metrics.refused) if place.live_port else None
        self._where = f"{place.host}:{place.live_port}"
        self._watches: dict[str, _Watch] = {}
        metrics.gauges.update(
            live_views=lambda: len(self._watches),
            live_watchers=lambda: sum(len(watch.desks) for watch in self._watches.values()),
        )

    def begin(self) -> None:
        """Take what comes from now on."""
        if self._views is not None:
            self._views.start()

    def close(self) -> None:
        """End all views: without reports their devices end as well."""
        if self._views is not None:
            self._views.close()
        self.pool.shutdown(wait=False, cancel_futures=True)

    def rows(self) -> list[dict[str, Any]] | None:
        """Return the views that are on: device, view (id), state (asked, on, over), who began it, watchers (names),
        on_ms (since when it is on), seconds (how long it lasts), why (it is over). None where this hub takes none.
        """
        return None if self._views is None else [watch.row() for watch in self._watches.values()]

    def start(self, desk: DispatcherSession, name: str, seconds: int, form: LiveFormat) -> int:
        """Have a desk watch a device; return the id of the view that is on, or of a new one."""
        if self._views is None:
            raise UserError("this hub takes no live view; name a live_port in the site file's [[hub]]")
        device = self._devices.get(name)
        if device is None:
            raise UserError(f"no device {name!r} at this site")
        watch = self._watches.get(name)
        if watch is None and len(self._watches) >= MOST_VIEWS:
            raise UserError(f"{MOST_VIEWS} live views are on, and this hub takes no more; end one first")
        if watch is not None and desk not in watch.desks and len(watch.desks) >= MOST_WATCHERS:
            raise UserError(f"{MOST_WATCHERS} watch {name} already, and no more may; look over their shoulder")
        self._audit(desk.name, "live_start", device=name, seconds=seconds, form=form)
        if watch is None:
            sent = self._command(desk.name, name, "live_view_start", seconds, "", self._where)
            watch = self._watches[name] = _Watch(self, device, desk.name, seconds, sent)
            self._views.begin(watch.view, max(0, sent.expires_ms - unix_ms()))
            self.metrics.counts["live_started"] += 1
        watch.desks[desk] = form
        watch.view.want_key()
        self.changed(watch)
        return watch.view.ssrc

    def stop(self, desk: DispatcherSession, name: str) -> None:
        """Have a desk watch it no more."""
        watch = self._watches.get(name)
        if watch is None or desk not in watch.desks:
            raise UserError(f"you do not watch {name}")
        del watch.desks[desk]
        if watch.desks:
            self.changed(watch)
        else:
            assert self._views is not None
            self._views.end(watch.view, "nobody watches any more")
        with contextlib.suppress(UserError):  # storage is full: that keeps no camera going
            self._audit(desk.name, "live_stop", device=name)
        if not watch.desks:
            self._command(desk.name, name, "live_view_stop", None, "", "")

    def leave(self, desk: DispatcherSession) -> None:
        """A desk is closed."""
        for name, watch in list(self._watches.items()):
            if desk in watch.desks:
                with contextlib.suppress(UserError):
                    self.stop(desk, name)

    def answered(self, row: dict[str, Any]) -> None:
        """A device has answered a command: a view that it does not begin is over."""
        watch = self._watches.get(row["device"])
        ours = watch is not None and watch.view.ssrc == row["command_id"]
        if watch is not None and ours and row["result"] not in ("started", "done"):
            assert self._views is not None
            self._views.end(watch.view, row["text"] or row["result"])

    def changed(self, watch: "_Watch", why: str = "") -> None:
        """Tell how a view is; why: it is over."""
        if why:
            del self._watches[watch.view.device]
            with contextlib.suppress(UserError):  # storage is full: counted
                self._audit("", "live_end", device=watch.view.device, why=why, pictures=watch.view.pictures)
        self._tell({"type": "live", **watch.row(why)})


class _Watch:
    """A view, and the form in which each desk has it."""

    def __init__(self, watching: Watching, device: Device, who: str, seconds: int, sent: SentCommand) -> None:
        self._watching, self._who, self._seconds = watching, who, seconds
        self.desks: dict[DispatcherSession, LiveFormat] = {}
        self._on_ms: int | None = None  # since when something comes
        # Long enough for a command that is carried out just before it expires; mended when it begins.
        until_ms = now_ms() + sent.expires_ms - unix_ms() + 1000 * seconds + _GRACE_MS
        self.view = View(
            device.name, sent.id, sent.expires_ms, device.key, until_ms, self._packet, self._picture, self._ended
        )
        self._jpegs = Jpegs(watching.pool, self._shown, self.view.want_key)

    def row(self, why: str = "") -> dict[str, Any]:
        return {
            "device": self.view.device,
            "view": self.view.ssrc,
            "state": "over" if why else "asked" if self._on_ms is None else "on",
            "who": self._who,
            "watchers": sorted({desk.name for desk in self.desks}),
            "on_ms": now_ms() - self._on_ms if self._on_ms is not None else 0,
            "seconds": self._seconds,
            "why": why,
        }

    def _packet(self, packet: bytes) -> None:
        if self._on_ms is None:
            self._on_ms = now_ms()
            self.view.until_ms = self._on_ms + 1000 * self._seconds + _GRACE_MS
            self._watching.changed(self)
        stamp = int.from_bytes(packet[4:8], "big")
        for desk, form in self.desks.items():
            if form == "rtp":
                desk.put(LiveFrame(self.view.ssrc, stamp, packet))

    def _picture(self, picture: Picture) -> None:
        self._watching.metrics.counts["live_pictures"] += 1
        if "jpeg" in self.desks.values():
            self._jpegs.take(picture)

    def _shown(self, stamp: int, jpeg: bytes) -> None:
        sight = LiveFrame(self.view.ssrc, stamp, jpeg)
        for desk, form in self.desks.items():
            if form == "jpeg" and not desk.put_picture(sight):
                self._watching.metrics.counts["live_left_out"] += 1

    def _ended(self, why: str) -> None:
        self._jpegs.close()
        self._watching.metrics.counts["live_not_decoded"] += self._jpegs.left_out
        self._watching.changed(self, why)
