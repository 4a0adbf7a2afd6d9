"""The parts of the recording side, put together, on a board that has a camera and the site's evidence key."""

import patrolink_messages as m
from agent.link.commands import DONE, FAILED, REFUSED, STARTED
from agent.recording.clip_index import NO_EVENT, UPLOADED
from agent.recording.clip_store import FAULT, ClipStore
from agent.recording.recorder import FOREVER, ClipRecorder, RefusedError
from agent.recording.signer import Signer

BUTTON, SOS, MAN_DOWN, DISPATCHER, GEOFENCE = range(5)  # clip_manifest.trigger
_START, _STOP, _SNAPSHOT, _LIVE, _LIVE_STOP, _PRESERVE = 1, 2, 3, 4, 5, 14  # command.action
_RECORDING, _RECORDED, _WATCHED, _UNWATCHED, _LOW = 5, 6, 9, 10, 12  # event.kind
_BY_BUTTON, _BY_DISPATCHER, _BY_FAULT = 0, 2, 5  # event.cause
_VERIFIED, _DAMAGED = 5, 7  # clip_state.state
_AGAIN_MS = 5000
_ASK_MS = 120000
_STEPS_MS = 5
_LITTLE_MS = 5
_EARLY = 8
_LIVE_KBPS = 600
_LINE_PACKET = 1024  # bytes of a datagram: as long as what a stream puts on a modem's UART at once
_BAUD = 115200
_PICTURE_KB = 16
_LONGEST_S = 86400
_WEARER = "wearer"  # who did it


def load(config):
    """Compile what this configuration will want, while the heap is empty."""
    if config["camera"].get("kind") == "vc0706":
        import agent.live_view.rtp_jpeg
        import agent.recording.avi
        import agent.recording.vc0706
    if config["clips"]["upload"]:
        import agent.upload.uploader
    if config.get("modem"):
        import agent.modem.datagrams
    import agent.live_view.session  # noqa: F401
    import compat.crypto  # noqa: F401


class Evidence:
    """Recorder, uploader and live view of an assembly.Device, led to by the hub's commands.

    Storage that cannot be read at the start is tried again every 5 s; until then a fault is told, and nothing recorded.
    """

    def __init__(self, device, config, hal, store, boot, ears):
        self._device = device
        self._reporter = device.reporter
        self._config = config
        self._hal = hal
        self._store = store
        self._boot = boot
        self._ears = ears
        self._again_ms = self._ask_ms = 0
        self._asked = -1  # number of the clip that the hub was asked about last
        self._held = False  # the wearer's long recording goes on, as far as the hub was told
        self._slice_ms = device.net.slice_ms
        self._loading = None  # steps to the recorder, while they are taken
        self._rested = False  # none was taken in the last round
        self._early = []  # what was pressed in that time: function, what to give it
        self._who = ""  # watches
        self._camera = device.camera
        sound = ears is not None and config["clips"]["sound"] != "never"
        self._film = _film(hal, config, device.camera, sound, self)
        self._recorder = self._uploader = self.live = None
        device.commands.duties.update(
            {_START: self._start, _STOP: self._stop, _SNAPSHOT: self._snapshot, _PRESERVE: self._preserve}
        )
        udp = _datagrams(device, hal)
        if udp is not None:
            self._begin_live(config, hal, udp)
        device.downlink.duties[m.CLIP_STATE] = self._take_state
        self._begin(0)

    @property
    def profiles(self):
        """Bits of hello.profiles: video, live view."""
        return 4 | (8 if self.live is not None else 0)

    def _begin(self, now):
        """Begin to take up what storage has."""
        config, device = self._config, self._device
        clips = config["clips"]
        self._again_ms = now + _AGAIN_MS
        try:
            files = self._hal.clip_storage(clips["dir"])
            shelf = ClipStore(files, self._store, Signer(self._store), clips, config["device"], self._boot, self._unix)
        except OSError as e:
            device.log("clips: storage cannot be read (%s); nothing is recorded" % e)
            return
        shelf.on_low, shelf.on_seal = self._low, self._sealed
        container, jpeg, camera = self._film
        key = clips["evidence_key"]
        it = ClipRecorder(shelf, camera, container, jpeg, key, clips, self._unix, self._source, self._ears)
        if self.live is not None:
            it.on_picture = self.live.picture
        self._loading = self._load(it)
        self._step(now)

    def _load(self, it):
        """Steps: what storage has, and what came meanwhile."""
        yield from it.load()
        self._recorder = it
        clips = self._config["clips"]
        if clips["upload"]:
            self._uploader = _uploader(self._device, self._config, it.shelf, self._unix, self._hal)
        self._device.log("clips: recording, %d clips on storage" % len(it.shelf.clips))
        self._loading = None
        for function, given in self._early:
            function(*given)

    def _later(self, function, *given):
        if len(self._early) < _EARLY:
            self._early.append((function, given))

    def _step(self, now):
        """Take a few steps of those."""
        try:
            next(self._loading)
            while self._device.now_ms() - now < _STEPS_MS:
                next(self._loading)
            return
        except StopIteration:
            pass
        except OSError as e:
            self._device.log("clips: storage cannot be read (%s); nothing is recorded" % e)
        self._loading = None
        self._early = []

    def _unix(self, mono_ms):
        return self._reporter.unix_ms(mono_ms) or 0

    def _source(self):
        return self._reporter.time_source

    def place(self, mono_ms):
        """Return (unix ms or 0, latitude, longitude in 1e-7 degrees or None): what is stamped on a picture."""
        lat, lon = self._reporter.place() or (None, None)
        return self._unix(mono_ms), lat, lon

    # --- the loop ---------------------------------------------------------------------------------------------------

    def serve(self, now):
        """Go on with recording and live view; return ms until it wants to be called again."""
        if self._recorder is None:
            if self._loading is not None:
                at = self._device.now_ms()
                self._rested = at - now > _LITTLE_MS and not self._rested
                if not self._rested:  # a round that had much to do already goes without, but not two in a row
                    self._step(at)
            elif now >= self._again_ms:
                self._begin(now)
            return 0 if self._hurry(self._loading is not None) else _AGAIN_MS
        self._recorder.serve(now)
        if self._held and not self._recorder.held:
            self._held = False
            self._tell(_RECORDED, _BY_FAULT, None)
        if now >= self._ask_ms and not len(self._device.outbox):  # what it had to say has come to the broker
            self._ask_ms = now + _ASK_MS
            self._ask()
        if self._hurry(self._recorder.shelf.working()):
            return 0
        return self.live.serve(now) if self.live is not None else _AGAIN_MS

    def _hurry(self, on):
        """There are steps to take: no wait for the network is long. Return whether it is so."""
        self._device.net.slice_ms = 1 if on else self._slice_ms
        return on

    def _ask(self):
        """Tell one of the clips again that the hub has whole and has said nothing of: what it said may be lost."""
        shelf = self._recorder.shelf
        waiting = [clip for clip in shelf.clips if clip.state == UPLOADED]
        if not waiting:
            return
        clip = ([c for c in waiting if c.number > self._asked] or waiting)[0]
        self._asked = clip.number
        try:
            values = shelf.values(clip)
        except OSError:
            return
        if values is not None:
            self._reporter.send(m.CLIP_MANIFEST, values)

    def upload(self, now):
        """Send a little; return ms until more is due. Never from inside a wait for the network."""
        if self._uploader is None:
            return _AGAIN_MS
        radio, device = self._device.radio, self._device
        return self._uploader.step(now, radio is not None and radio.is_busy(), device.events.due_count() > 0)

    def on_fix(self, fix, now):
        """Take a position into the film."""
        if self._recorder is not None:
            self._recorder.on_fix(fix, now)

    @property
    def errors(self):
        """Bits of device_status.errors."""
        if self._recorder is None:
            return 0 if self._loading is not None else FAULT
        return self._recorder.errors

    @property
    def free_pct(self):
        """The part of the clips' quota that is free, per cent; None while storage cannot be read."""
        if self._recorder is None:
            return None
        shelf = self._recorder.shelf
        return max(0, 100 - shelf.bytes * 100 // shelf.quota)

    def close(self, now):
        """The power goes as planned."""
        if self.live is not None:
            self.live.stop("power off", now)
        if self._uploader is not None:
            self._uploader.hang_up()
        if self._recorder is not None:
            self._recorder.close(now)

    def summary(self):
        """What this boot recorded."""
        it = self._recorder
        return {
            "clips": len(it.shelf.clips) if it else 0,
            "frames": it.frames if it else 0,
            "lost": it.lost if it else 0,
            "uploaded": self._uploader.files if self._uploader else 0,
        }

    # --- events -----------------------------------------------------------------------------------------------------

    def event(self, trigger, event_id, who="", hold_ms=None):
        """Keep what was just filmed, and what comes. Return the clip's number, None and why when it is not kept."""
        if self._loading is not None:
            if not who:  # nobody is there who would ask again
                self._later(self.event, trigger, event_id)
            return None, "it reads its storage still; ask again in a moment"
        if self._recorder is None:
            self._device.log("clips: no clip: storage cannot be read")
            return None, "storage cannot be read"
        now = self._device.now_ms()
        if trigger == SOS and self._uploader is not None:
            self._uploader.hurry(True)
        try:
            return self._recorder.trigger(trigger, event_id, who, now, hold_ms), ""
        except RefusedError as e:
            self._device.log("clips: no clip: %s" % e)
            return None, str(e)

    def button(self, name, now):
        """`record` begins a recording and ends it; `mark` keeps a moment. False for another button."""
        if name == b"mark":
            self.event(BUTTON, NO_EVENT)
        elif name != b"record":
            return False
        elif self._loading is not None:
            self._later(self.button, name, now)
        elif self._held:
            self._held = False
            self._tell(_RECORDED, _BY_BUTTON, self._recorder.release(_WEARER, now))
        else:
            number, _ = self.event(BUTTON, NO_EVENT, _WEARER)
            self._held = number is not None
            if self._held:
                self._recorder.held = True
                self._tell(_RECORDING, _BY_BUTTON, number)
        return True

    def _tell(self, kind, cause, ref, value=None):
        self._reporter.raise_event(kind, cause, 0, self._device.now_ms(), ref, value)

    def _low(self, pct):
        self._device.log("clips: those that the hub does not have take %d %% of the room that they may" % pct)
        self._tell(_LOW, _BY_FAULT, None, pct)

    def _sealed(self, values):
        self._reporter.send(m.CLIP_MANIFEST, values)
        if self._uploader is not None:
            self._uploader.hurry()

    # --- the hub ----------------------------------------------------------------------------------------------------

    def _take_state(self, message):
        if self._recorder is None:
            return
        shelf = self._recorder.shelf
        if message["state"] == _VERIFIED:
            shelf.verified(message["clip_id"])
        elif message["state"] == _DAMAGED:
            shelf.damaged(message["clip_id"])

    def _start(self, message):
        seconds = message["number"]
        if seconds is not None and seconds > _LONGEST_S:
            return REFUSED, "a recording lasts %d s at most" % _LONGEST_S, None
        hold_ms = FOREVER if seconds is None else seconds * 1000
        number, why = self.event(DISPATCHER, NO_EVENT, message["operator"], hold_ms)
        if number is None:
            return REFUSED, why, None
        self._tell(_RECORDING, _BY_DISPATCHER, number)
        return STARTED, "", number

    def _stop(self, message):
        number = self._recorder.stop(message["operator"], self._device.now_ms()) if self._recorder is not None else None
        if number is None:
            return FAILED, "nothing is being recorded", None
        self._held = False
        self._tell(_RECORDED, _BY_DISPATCHER, number)
        return DONE, "", number

    def _snapshot(self, message):
        now = self._device.now_ms()
        if not self._unix(now):
            return REFUSED, "the time is not known", None
        commands, camera = self._device.commands, self._camera

        def done(number):
            if number is None:
                commands.answer(message, FAILED, camera.fault or "no picture came, or there was no room for it")
            else:
                commands.answer(message, DONE, "", number)

        if self._recorder is None:
            return FAILED, "storage cannot be read", None
        try:
            self._recorder.snapshot(message["operator"], now, done)
        except RefusedError as e:
            return REFUSED, str(e), None
        return None

    def _preserve(self, message):
        if self._recorder is None or not self._recorder.shelf.preserve(message["number"]):
            return FAILED, "this clip is not here", None
        return DONE, "", message["number"]

    # --- live view --------------------------------------------------------------------------------------------------

    def _begin_live(self, config, hal, udp):
        from agent.live_view.session import PACKET, LiveView
        from compat import aes
        from patrolink_protocol import srtp
        from patrolink_protocol.key_derivation import live_view_context

        device, epoch, given = self._device, self._device.downlink.epoch, config.get("modem")

        def keys(label, command_id, expires_ms):
            context = live_view_context(command_id, expires_ms)
            return srtp.derive_master(config["key"], b"patrolink-live-" + label, epoch, context)

        film = _filmed(hal, config)
        camera = self._camera
        self.live = LiveView(
            udp,
            aes.encrypter,
            keys,
            device.log,
            camera,
            min(_LIVE_KBPS, _line_kbps(given["uart"])) if given else _LIVE_KBPS,
            film.Encoder(camera.width, camera.height, camera.fps) if film else None,
            lambda: device.events.due_count() > 0 or device.radio is not None and device.radio.is_busy(),
            self._unwatched,
            _LINE_PACKET if given else PACKET,
            config["camera"].get("picture_kb", _PICTURE_KB) * 1024,
        )
        device.commands.duties.update({_LIVE: self._watch, _LIVE_STOP: self._unwatch})

    def _watch(self, message):
        now = self._device.now_ms()
        if not self._unix(now):
            return REFUSED, "the time is not known", None
        host, _, port = message["value"].rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535 or self._recorder is None:
            return REFUSED, "where to stream to is told as host:port" if self._recorder else "no camera", None
        begun, text = self.live.start(message, host, int(port), now)
        if not begun:
            return REFUSED, text, None
        self._who = message["operator"]
        self._recorder.access("live_view_start", self._who, now)
        self._tell(_WATCHED, _BY_DISPATCHER, None)
        return STARTED, "", None

    def _unwatch(self, message):
        if not self.live.running():
            return FAILED, "nobody watches", None
        self._who = message["operator"]
        self.live.stop("told to", self._device.now_ms())
        return DONE, "", None

    def _unwatched(self, why):
        self._recorder.access("live_view_stop", self._who, self._device.now_ms(), "why", why)
        self._tell(_UNWATCHED, _BY_DISPATCHER, None)


def _datagrams(device, hal):
    """Return function(host, port) -> UDP socket, the modem's or the board's own; None where there is neither."""
    if device.modem:
        return device.modem.udp
    if not hasattr(hal, "audio"):
        return None
    sound = hal.audio()
    return lambda host, port: sound.Udp(host, port, device.inputs)


def _line_kbps(uart):
    """What a view may take of a modem's UART: seven tenths, for the session and the clips go the same way."""
    baud = uart.get("baudrate", _BAUD) if isinstance(uart, dict) else _BAUD
    return baud * 7 // 12500


def _filmed(hal, config):
    """Return the platform's room for pictures that are arrays, None where the camera gives JPEGs."""
    return None if config["camera"].get("kind") == "vc0706" else hal.video()


def _film(hal, config, camera, sound, evidence):
    """Return (container, what makes a JPEG of a picture, the camera with its stamp)."""
    film = _filmed(hal, config)
    if film is None:
        from agent.recording.avi import AviMuxer

        config["clips"]["stamp"] = False
        return AviMuxer(camera.width, camera.height, camera.fps, sound), lambda picture: picture, camera
    container = film.H264Muxer(camera.width, camera.height, camera.fps, sound=sound)
    if config["clips"]["stamp"]:
        camera = film.StampedCamera(camera, config["device"], evidence.place)
    return container, film.encode_jpeg, camera


def _uploader(device, config, shelf, unix, hal):
    from agent.link.backoff import Backoff
    from agent.upload.tus import TusClient
    from agent.upload.uploader import Uploader, UploadNetwork

    given = config["clips"]["upload"]
    way = UploadNetwork(
        device.now_ms, device.serve, device.raw(given["tls"], "clips.upload.tls"), device.events.due_count
    )
    host = "%s:%d" % (given["host"], given["port"])
    client = TusClient(config["key"], config["device"].encode(), config["key_epoch"], host, given["path"])
    faults = device.session.faults + device.modem.faults if device.modem else device.session.faults
    where = (given["host"], given["port"])
    return Uploader(shelf, client, way, where, given["kbps"], unix, Backoff(hal.randbelow), device.log, faults)
