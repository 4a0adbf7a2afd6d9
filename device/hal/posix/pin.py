"""An output of a board that is a process. Loaded only where there is one."""


class Pin:
    """An output: a GPIO's `value` file, or an LED's `brightness`, which is set to its most."""

    def __init__(self, path):
        self._path = path
        self._on = "1"
        if path.endswith("brightness"):
            try:
                with open(path[: -len("brightness")] + "max_brightness") as f:
                    self._on = f.read().strip()
            except OSError:
                pass  # `set` tells what is wrong

    def set(self, level):
        with open(self._path, "w") as f:
            f.write(self._on if level else "0")

    def get(self):
        """Return whether it is on."""
        with open(self._path) as f:
            return f.read().strip() not in ("", "0")
