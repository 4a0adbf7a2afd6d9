"""Runs the agent on the board and tells how long its loop stands still; board_loop.py types its import at the prompt.

A round begins when the loop looks at the buttons, the receiver and the link; sleeping until a UART has something is no
standing still. For each phase one line of JSON with the longest way from one round to the next, in cycles of the
board's clock: `boot` until it records, `film`, `clip` while an event goes on, `seal` until that clip has its seal.
"""

import json

import board
import machine
from app import device as assembly
from app.start import start
from hal.baremetal import platform as baremetal

FILE = "/patrol.json"


class Watch:
    """The rounds of the loop."""

    def __init__(self):
        self.phase = "boot"
        self.begun = None
        self.slept = self.most = self.rounds = 0
        self.lines_open = 0  # cycles since the reset, when the first UART was opened

    def round(self, device):
        """One begins."""
        now = board.cycles()
        phase = phase_of(device.evidence)
        if self.begun is None:
            print(json.dumps({"phase": "start", "most": now - self.lines_open, "rounds": 1, "at": now}))
        else:
            gap = now - self.begun - self.slept
            self.most = max(self.most, gap)
            if phase != self.phase:
                self.tell(now)
                self.most = gap  # what ends a phase begins the next
                self.phase = phase
        self.rounds += 1
        self.slept = 0
        self.begun = board.cycles()

    def tell(self, now):
        """Say what the phase came to."""
        print(json.dumps({"phase": self.phase, "most": self.most, "rounds": self.rounds, "at": now}))
        self.most = self.rounds = 0


def phase_of(evidence):
    """Return what the recorder is doing."""
    recorder = evidence._recorder
    if recorder is None:
        return "boot"
    writing = recorder.shelf.writing
    return "film" if not writing else "clip" if writing[0].until is None else "seal"


watch = Watch()
serve, wait = assembly.Device.serve, baremetal.Inputs.wait


def served(device):
    watch.round(device)
    serve(device)


def waited(inputs, ms):
    now = board.cycles()
    wait(inputs, ms)
    watch.slept += board.cycles() - now


class Uart(baremetal.Uart):
    """One that tells when the first was opened."""

    def __init__(self, *given):
        super().__init__(*given)
        if not watch.lines_open:
            watch.lines_open = board.cycles()


def platform():
    baremetal.Uart = Uart
    return baremetal


assembly.Device.serve, baremetal.Inputs.wait = served, waited
code = start(FILE, platform, print)
watch.tell(board.cycles())
if code == 0:
    machine.deepsleep()
