"""Digital outputs of a board that is a process."""


class Pin:
    """An output: the `value` file of a GPIO, or the `brightness` file of an LED, which is set to its maximum.

    Args:
        path: Path of the file.
    """

    def __init__(self, path):
        self._path = path
        self._on = "1"
        if path.endswith("brightness"):
            try:
                with open(path[: -len("brightness")] + "max_brightness") as f:
                    self._on = f.read().strip()
            except OSError:
                pass  # `set` reports the fault

    def set(self, level):
        """Switch the output on or off. Raises OSError."""
        with open(self._path, "w") as f:
            f.write(self._on if level else "0")

    def get(self):
        """Return whether the output is on. Raises OSError."""
        with open(self._path) as f:
            return f.read().strip() not in ("", "0")
