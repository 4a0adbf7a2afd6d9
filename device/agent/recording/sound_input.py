"""The recorder's microphone: open only while sound is recorded."""

_UNITS_MAX = 8  # read at once


class SoundInput:
    """Opens the microphone for the segments that have sound.

    Attributes:
        fault: Sound is required, but the microphone cannot be opened.
        is_open: The microphone is open.

    Args:
        microphone: hal Microphone (open, read, buf, close), None without sound.
        mode: Configuration clips.sound: "event", "always" or "never".
    """

    def __init__(self, microphone, mode):
        self._microphone = microphone
        self.always = mode == "always" and microphone is not None
        self.on_event = mode != "never" and microphone is not None
        self.is_open = False
        self.fault = False

    def select(self, event):
        """Open or close the microphone for a new segment, and return whether the segment has sound.

        Args:
            event: Whether a clip is being recorded.
        """
        required = self.always or (self.on_event and event)
        if required != self.is_open:
            if required:
                self.is_open = self._microphone.open()
            else:
                self._microphone.close()
                self.is_open = False
        self.fault = required and not self.is_open
        return self.is_open

    def read_into(self, container, time_ms):
        """Move new samples into a container.

        Args:
            container: Its `sound` takes them; None to discard them.
            time_ms: Time since the start of the segment.
        """
        if not self.is_open:
            return
        microphone = self._microphone
        for _ in range(_UNITS_MAX):
            n = microphone.read()
            if not n:
                return
            if container is not None:
                unit = microphone.buf
                container.sound(unit if n == len(unit) else unit[:n], time_ms)

    def close(self):
        """Close the microphone."""
        self.fault = False
        if self.is_open:
            self._microphone.close()
            self.is_open = False
