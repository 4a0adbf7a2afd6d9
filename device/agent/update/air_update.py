"""Updates over the air: one job at a time, from the request of the hub to the confirmed image.

    fetch the header, check it with its signature, fetch the payload, check its hashes, write the free slot, wait until
    a restart disturbs nobody, install, restart; the new image reports its confirmation, the old one a failed trial

Each stage can be repeated: after a restart the job begins anew, and what is on storage and in flash is not fetched or
written again. Nothing is done while the port is urgent.
"""

import patrolink_enums as enums
from agent.update.delta import DeltaError, apply_delta
from agent.update.device_slots import CONTENT_ID_BYTES
from agent.update.download import Download
from agent.update.installer import ContentStream, ImageRefusedError
from agent.update.job_store import Job
from agent.update.slots import SlotContent
from compat.inflate import inflate
from patrolink_protocol import image_header
from patrolink_protocol.native import const

ATTEMPTS_MAX = const(3)
POLL_MS = const(100)  # while bytes are awaited
WAIT_MS = const(1000)  # until the device may restart, or its image is confirmed
IDLE_MS = const(60_000)
RETRY_MS = const(60_000)  # after a failed attempt
_ENOSPC = const(28)
_TEXT_MAX = const(80)
_INSTALLED = enums.FIRMWARE_STATUS_STATE_INSTALLED
_ENDS = (
    enums.FIRMWARE_STATUS_STATE_CONFIRMED,
    enums.FIRMWARE_STATUS_STATE_REFUSED,
    enums.FIRMWARE_STATUS_STATE_FAILED,
    enums.FIRMWARE_STATUS_STATE_ROLLED_BACK,
    enums.FIRMWARE_STATUS_STATE_CANCELLED,
)


class _AttemptFailedError(Exception):
    """An attempt has failed: reason and text."""


class AirUpdate:
    """State machine of updates over the air.

    Args:
        store: agent.update.job_store.JobStore.
        slots: agent.update.device_slots.DeviceSlots.
        port: The device, with these methods. session(): number of the session that would send a request at once, or
            None. is_urgent(): whether voice or an event goes first. blocker(): firmware_status.reason why the device
            must not restart now, 0 if it may, None if it is offline. send_request(image, offset, max_bytes).
            send_status(command_id, state, reason, text). log(text).

    Attributes:
        restart_due: Whether the device is to restart into the new image.

    Raises:
        OSError: Storage cannot be read.
    """

    def __init__(self, store, slots, port):
        self._store = store
        self._slots = slots
        self._port = port
        self._now_ms = self._due_ms = 0
        self._job = store.load()
        self._download = None
        self._block = None
        self._work = None
        self.restart_due = False
        if self._is_active():
            self._resume()

    # --- messages -----------------------------------------------------------------------------------------------------

    def install(self, message):
        """Begin the job of a firmware message, or report the state of the job again if it is the same command."""
        job = self._job
        if self.knows(message["command_id"]):
            self._repeat()
            return
        if self._is_active():
            if job.state == _INSTALLED:
                self._port.send_status(
                    message["command_id"],
                    enums.FIRMWARE_STATUS_STATE_REFUSED,
                    enums.FIRMWARE_STATUS_REASON_BUSY,
                    "another image is in its trial",
                )
                return
            self._stop()
            self._report(enums.FIRMWARE_STATUS_STATE_CANCELLED, enums.FIRMWARE_STATUS_REASON_REPLACED)
        keeps_image = job is not None and (job.image, job.size) == (message["image"], message["bytes"])
        self._job = Job(
            message["command_id"],
            message["image"],
            message["bytes"],
            message["rollback_floor"],
            message["version"],
            self._slots.last_install,
        )
        try:
            if not keeps_image:
                self._store.discard()
            self._store.save(self._job)
        except OSError as e:
            self._end(enums.FIRMWARE_STATUS_STATE_FAILED, enums.FIRMWARE_STATUS_REASON_STORAGE, "storage: %s" % e)
            return
        self._begin()

    def cancel(self, message):
        """End a job that is not installed yet; the state of any other one is reported again."""
        job = self._job
        if not self.knows(message["command_id"]):
            self._port.send_status(message["command_id"], enums.FIRMWARE_STATUS_STATE_CANCELLED, 0, "")
        elif job.state == _INSTALLED or not self._is_active():
            self._repeat()
        else:
            self._stop()
            self._end(enums.FIRMWARE_STATUS_STATE_CANCELLED)

    def on_block(self, message):
        """Take bytes of the image that were requested. They are stored in the next step."""
        if self._download is None or self._block is not None:
            return
        data = message["data"]
        if self._download.accepts(message["image"], message["offset"], len(data), self._store.received):
            self._block = data
            self._due_ms = 0
            self._download.block_arrived()

    # --- progress -----------------------------------------------------------------------------------------------------

    def step(self, now_ms):
        """Do the next piece of work. Returns the ms after which it wants to be called again."""
        if self._work is None:
            return IDLE_MS
        if self._port.is_urgent():
            return WAIT_MS
        if now_ms < self._due_ms:
            return self._due_ms - now_ms
        self._now_ms = now_ms
        try:
            wait_ms = next(self._work) or 0
        except StopIteration:
            self._stop()
            return IDLE_MS
        self._due_ms = now_ms + wait_ms
        return wait_ms

    def knows(self, command_id):
        """Return whether a command is that of the job, active or ended."""
        return self._job is not None and self._job.command_id == command_id

    def _is_active(self):
        return self._job is not None and self._job.state not in _ENDS

    def _begin(self):
        self._due_ms = 0
        self._download = Download(self._job.image, self._job.size)
        self._work = self._run()

    def _stop(self):
        work, self._work = self._work, None
        self._download = self._block = None
        if work is not None:
            work.close()

    def _resume(self):
        """Continue the job of the previous boot: it was interrupted, or its image runs or has failed."""
        job = self._job
        if any(job.content) and job.content == self._slots.content_id:
            self._work = self._await_confirmation()
        elif job.state == _INSTALLED or self._slots.has_failed(job.content, job.install):
            self._end(enums.FIRMWARE_STATUS_STATE_ROLLED_BACK, 0, "the new image has failed; the previous one runs")
        else:
            self._begin()

    def _run(self):
        """Steps of a job until it has ended or the device is to restart; each yields a time to wait in ms, or None."""
        while True:
            try:
                yield from self._attempt()
                return
            except ImageRefusedError as e:
                if e.reason != enums.FIRMWARE_STATUS_REASON_DAMAGED:
                    self._end(enums.FIRMWARE_STATUS_STATE_REFUSED, e.reason, str(e))
                    return
                reason, text = e.reason, str(e)
            except _AttemptFailedError as e:
                reason, text = e.args
            except MemoryError as e:
                reason, text = enums.FIRMWARE_STATUS_REASON_NO_SPACE, "memory: %s" % e
            except OSError as e:
                is_full = e.args and e.args[0] == _ENOSPC
                reason = enums.FIRMWARE_STATUS_REASON_NO_SPACE if is_full else enums.FIRMWARE_STATUS_REASON_STORAGE
                text = "storage: %s" % e
            self._job.attempts += 1
            self._port.log("update: attempt %d failed: %s" % (self._job.attempts, text))
            if self._job.attempts >= ATTEMPTS_MAX:
                self._end(enums.FIRMWARE_STATUS_STATE_FAILED, reason, text)
                return
            self._save()
            yield RETRY_MS

    def _attempt(self):
        """Steps of one attempt.

        Raises:
            ImageRefusedError: the image must not be installed.
            _AttemptFailedError: the image has arrived damaged.
            OSError: storage or flash does not work.
        """
        store, slots, job = self._store, self._slots, self._job
        if store.received > job.size:
            store.discard()
        yield from self._fetch(image_header.HEADER_BYTES)
        header_data = store.header_data()
        header = self._unpack(header_data)
        job.content = header.sha256[:CONTENT_ID_BYTES]
        if job.content == slots.content_id:
            yield from self._await_confirmation()
            return
        installer = slots.make_installer(job.floor)
        yield from installer.check(header_data)
        if not job.state and store.received < job.size:
            self._report(enums.FIRMWARE_STATUS_STATE_FETCHING)
        else:
            self._save()
        yield from self._fetch(job.size)
        whole, payload = yield from store.digests()
        if payload != header.payload_sha256 or whole[: len(job.image)] != job.image:
            self._fail_attempt("the downloaded image does not have its SHA-256")
        installer.invalidate()
        yield from self._write(installer, header)
        yield from self._await_quiet()
        yield from installer.finish()
        self._report(_INSTALLED)
        self.restart_due = True

    def _unpack(self, header_data):
        """Return the header if it belongs to the file that was requested; packed images only."""
        reason = enums.FIRMWARE_STATUS_REASON_FORMAT
        try:
            header = image_header.unpack(header_data)
        except image_header.ImageHeaderError as e:
            raise ImageRefusedError("not an image for this device: %s" % e, reason)
        if header.kind != image_header.AGENT_DELTA:
            raise ImageRefusedError("not packed for the air", reason)
        if image_header.HEADER_BYTES + header.payload_size != self._job.size:
            raise ImageRefusedError("the size of the image differs from that of the request", reason)
        return header

    def _fetch(self, size):
        """Steps: request blocks until at least `size` bytes are there. Raises OSError."""
        store = self._store
        while store.received < size:
            if self._block is not None:
                block, self._block = self._block, None
                store.append(block)
                yield
                continue
            session = self._port.session()
            if session is not None:
                n = self._download.next_request(store.received, session, self._now_ms)
                if n:
                    self._port.send_request(self._job.image, store.received, n)
                    yield
                    continue
            yield POLL_MS

    def _write(self, installer, header):
        """Steps: write the content that the payload makes of the base into the free slot. Raises as `_attempt`."""
        base = SlotContent(None, 0, 0)
        if header.base_sha256 != image_header.NO_BASE:
            base = self._slots.content(1 - installer.slot)
        stream = self._store.open_payload()
        try:
            yield from apply_delta(base, inflate(stream), header.size, ContentStream(installer).write)
        except DeltaError as e:
            self._fail_attempt(str(e))
        finally:
            stream.close()

    def _await_quiet(self):
        """Steps: wait until a restart disturbs nobody. Each reason to wait is reported once."""
        reported = 0
        while True:
            reason = self._port.blocker()
            if reason == enums.FIRMWARE_STATUS_REASON_NONE:
                return
            if reason is not None and not reported >> reason & 1:
                reported |= 1 << reason
                if (self._job.state, self._job.reason) != (enums.FIRMWARE_STATUS_STATE_DEFERRED, reason):
                    self._report(enums.FIRMWARE_STATUS_STATE_DEFERRED, reason)
            yield WAIT_MS

    def _await_confirmation(self):
        """Steps: wait until the image that runs is confirmed. Its trial ends in a restart otherwise."""
        while not self._slots.is_confirmed():
            yield WAIT_MS
        self._end(enums.FIRMWARE_STATUS_STATE_CONFIRMED)

    def _fail_attempt(self, text):
        """Forget what was downloaded, and raise _AttemptFailedError."""
        self._store.discard()
        raise _AttemptFailedError(enums.FIRMWARE_STATUS_REASON_DAMAGED, text)

    # --- states -------------------------------------------------------------------------------------------------------

    def _report(self, state, reason=0, text=""):
        """Send a status and keep it. Sent first: after a power cut it is sent twice rather than never."""
        job = self._job
        text = text[:_TEXT_MAX]
        self._port.send_status(job.command_id, state, reason, text)
        job.state, job.reason, job.text = state, reason, text
        self._save()

    def _save(self):
        try:
            self._store.save(self._job)
        except OSError as e:
            self._port.log("update: the state cannot be stored (%s)" % e)

    def _end(self, state, reason=0, text=""):
        self._report(state, reason, text)
        try:
            self._store.discard()
        except OSError as e:
            self._port.log("update: the image file cannot be removed (%s)" % e)

    def _repeat(self):
        """Report the last state again, and end a long wait for an answer of the hub."""
        job = self._job
        if job.state:
            self._port.send_status(job.command_id, job.state, job.reason, job.text)
        if self._download is not None:
            self._download.retry_now()
            self._due_ms = 0
