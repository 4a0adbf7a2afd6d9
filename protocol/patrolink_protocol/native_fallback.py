"""Loads modules of machine code (see `native`) on a MicroPython that cannot emit it. MicroPython subset."""


def load_interpreted(path):
    """Return the contents of a module with `micropython.viper` loops, without its decorators, as an object.

    Importing such a module raises SyntaxError on a MicroPython without the native code emitter.
    """
    names = {"__name__": "interpreted"}
    with open(path) as f:
        exec(f.read().replace("@micropython.viper\n", ""), names)  # noqa: S102 - our own source
    module = _Module()
    for name in names:
        setattr(module, name, names[name])
    return module


class _Module:
    pass
