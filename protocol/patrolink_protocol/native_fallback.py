"""Modules of machine code (see `native`) for a MicroPython that makes none. MicroPython subset."""


def load_interpreted(path):
    """Return what a module of such loops holds, without its decorators: for a MicroPython that has no emitter.

    There its import raises SyntaxError.
    """
    names = {"__name__": "plain"}
    with open(path) as f:
        exec(f.read().replace("@micropython.viper\n", ""), names)  # noqa: S102 - our own text
    module = _Module()
    for name in names:
        setattr(module, name, names[name])
    return module


class _Module:
    pass
