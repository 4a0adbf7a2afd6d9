"""Runs the agent on the board and reports the pauses of its loop; board_loop.py types its import at the prompt.

A round begins when the loop reads buttons, receiver and link; sleeping until a UART has data is no pause. For each
phase it prints one line of JSON with the longest time between two rounds, in cycles of the board's clock: `boot` until
it records, `film`, `clip` during an event, `seal` until that clip has its seal.
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
        self.round_start = None
        self.slept = self.most = self.rounds = 0
        self.lines_open = 0  # cycles from the reset to the opening of the first UART

    def round(self, device):
        """Start a round."""
        now = board.cycles()
        phase = phase_of(device.recording)
        if self.round_start is None:
            print(json.dumps({"phase": "start", "most": now - self.lines_open, "rounds": 1, "at": now}))
        else:
            gap = now - self.round_start - self.slept
            self.most = max(self.most, gap)
            if phase != self.phase:
                self.tell(now)
                self.most = gap  # the end of a phase starts the next
                self.phase = phase
        self.rounds += 1
        self.slept = 0
        self.round_start = board.cycles()

    def tell(self, now):
        """Print the result of the phase."""
        print(json.dumps({"phase": self.phase, "most": self.most, "rounds": self.rounds, "at": now}))
        self.most = self.rounds = 0


def phase_of(controller):
    """Return what the recorder is doing."""
    recording = controller._recording
    if recording is None:
        return "boot"
    clips = recording.store.open_clips._clips
    return "film" if not clips else "clip" if clips[0].last_id is None else "seal"


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
    """A UART that records when the first one was opened."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
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
