"""Certification mode: a tester controls the device through the protocol (SPEC.md, CERTIFY-1).

The wearer is shown the mode. It ends after its time, when the tester ends it, and with a restart. Nothing in it opens
camera, microphone or position.
"""

import patrolink_enums as enums
import patrolink_messages as m
from patrolink_protocol import codec, decode
from patrolink_protocol.errors import RejectError
from patrolink_protocol.native import const

_SECONDS_MAX = const(3600)
_PAYLOAD_MAX = const(200)


class Certification:
    """The mode, and what a tester may request in it.

    Args:
        downlink: agent.link.downlink.Downlink, whose counts are reported.
        send: Function(message type, values) that sends a message to the hub.
        audit: Function of fields that appends to the audit log and returns whether that succeeded.
        show: Function of one string, for the wearer.
        reset: Function that resets the board at once, as a power cut does.
        now_ms: Function that returns monotonic milliseconds.
    """

    def __init__(self, downlink, send, audit, show, reset, now_ms):
        self._downlink = downlink
        self._send = send
        self._audit = audit
        self._show = show
        self._reset = reset
        self._now_ms = now_ms
        self._ends_ms = None  # end of the mode; None outside of it

    def poll(self, now_ms):
        """End the mode when its time is over."""
        if self._ends_ms is not None and now_ms >= self._ends_ms:
            self._leave("its time is over")

    def on_certify(self, message):
        """Carry out a request. One that comes outside of the mode, other than the one that enters it, is ignored."""
        now_ms = self._now_ms()
        operation = message["operation"]
        payload = message["payload"]
        if operation == enums.CERTIFY_OPERATION_ENTER:
            self._enter(message["seconds"], now_ms)
        elif self._ends_ms is None:
            self._show("certification: request ignored; the device is not in this mode")
            return
        if operation in (enums.CERTIFY_OPERATION_ENTER, enums.CERTIFY_OPERATION_REPORT_COUNTERS):
            payload = b""
        elif operation == enums.CERTIFY_OPERATION_LEAVE:
            self._leave("the tester has ended it")
            payload = b""
        elif operation == enums.CERTIFY_OPERATION_SEND_VECTOR:
            payload = self._encode_again(payload)
        elif operation == enums.CERTIFY_OPERATION_POWER_CUT:
            if self._audit("power cut"):
                self._reset()
            return
        elif operation != enums.CERTIFY_OPERATION_ECHO:
            return
        self._send_result(payload, now_ms)

    def _enter(self, seconds, now_ms):
        seconds = min(seconds, _SECONDS_MAX)
        if not self._audit("enter", seconds):
            self._show("certification: refused; the audit log cannot be written")
            return
        self._ends_ms = now_ms + seconds * 1000
        self._show("certification: a tester controls this device for %d s" % seconds)

    def _leave(self, reason):
        self._ends_ms = None
        self._audit("leave", reason)
        self._show("certification: over; %s" % reason)

    def _encode_again(self, payload):
        """Return a message type and body, decoded and encoded again; empty if the message is refused.

        So is a position batch: devices encode these from fixes, and a board has no memory for 255 decoded rows.
        """
        try:
            kind = payload[0]
            if kind == m.POSITION_BATCH:
                return b""
            values = decode.decode(kind, payload[1:])
            for name in values:
                if isinstance(values[name], str):
                    values[name] = values[name].encode()
            buf = bytearray(_PAYLOAD_MAX)
            buf[0] = kind
            return bytes(buf[: codec.encode_into(kind, values, buf, 1)])
        except (RejectError, codec.FieldError, IndexError):
            return b""

    def _send_result(self, payload, now_ms):
        remaining_ms = 0 if self._ends_ms is None else self._ends_ms - now_ms
        values = {"operation": enums.CERTIFY_OPERATION_RESULT, "seconds": max(0, remaining_ms) // 1000}
        values["frames_accepted"] = self._downlink.received
        values["frames_refused"] = self._downlink.rejected
        values["payload"] = payload
        self._send(m.CERTIFY, values)
