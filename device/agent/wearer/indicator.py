"""Lamps that tell who is near that a camera or a microphone is on. MicroPython subset.

Camera and microphone may share a lamp. It is on while any of them needs it, so that one that closes does not darken it
for the other.
"""


class Indicators:
    """The indicators of a device.

    Args:
        open_pin: Function (where) -> hal Pin.
    """

    def __init__(self, open_pin):
        self._open_pin = open_pin
        self._lamps = {}

    def add_user(self, where):
        """Return an output for one user of the lamp at `where`, with the interface of the hal Pin."""
        if where not in self._lamps:
            self._lamps[where] = _Lamp(self._open_pin(where))
        return self._lamps[where].add_user()


class _Lamp:
    def __init__(self, pin):
        self._pin = pin
        self._users = []

    def add_user(self):
        self._users.append(_User(self))
        return self._users[-1]

    def _level(self):
        for user in self._users:
            if user.level:
                return 1
        return 0

    def get(self):
        """Return whether the lamp is on. Raises OSError."""
        return self._pin.get()

    def update(self):
        """Switch the lamp as its users need it. Raises OSError.

        A camera may call this from another thread: what it has changed in the meantime is carried out as well.
        """
        level = -1
        while level != self._level():
            level = self._level()
            self._pin.set(level)


class _User:
    def __init__(self, lamp):
        self._lamp = lamp
        self.level = 0

    def set(self, level):
        """Switch the lamp on, or off if no other user needs it. Raises OSError."""
        self.level = level
        self._lamp.update()

    def get(self):
        """Return whether the lamp is on. Raises OSError."""
        return self._lamp.get()
