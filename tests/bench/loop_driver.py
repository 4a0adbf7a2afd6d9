"""Run the agent on the board and report the pauses of its loop. board_loop.py enters the import at the prompt.

A round starts when the loop reads buttons, receiver and link. Waiting for data of a UART does not count as a pause, and
neither does a garbage collection: into which round it falls depends on every byte that was allocated before, so its
length is reported by itself. Each phase prints one line of JSON with the longest time between two rounds, in cycles of
the board's clock: `boot` until recording starts, `film`, `clip` during an event, `seal` until that clip is sealed.
"""

import json

import board
import machine
from app import device as assembly
from app.start import start
from hal.baremetal import platform as baremetal

FILE = "/patrol.json"


def busy_cycles():
    """Return the cycles since reset outside garbage collections."""
    return board.cycles() - board.collections()[0]


class RoundMeter:
    """Measures the rounds of the loop."""

    def __init__(self):
        self.phase = "boot"
        self.round_start = None
        self.slept = self.longest = self.rounds = 0
        self.first_open = 0  # cycles from reset until the first UART was opened

    def round(self, device):
        """Start a round."""
        now = busy_cycles()
        phase = phase_of(device.recording)
        if self.round_start is None:
            print(json.dumps({"phase": "start", "most": now - self.first_open, "rounds": 1, "at": board.cycles()}))
        else:
            gap = now - self.round_start - self.slept
            self.longest = max(self.longest, gap)
            if phase != self.phase:
                self.print_phase()
                self.longest = gap  # the end of a phase starts the next
                self.phase = phase
        self.rounds += 1
        self.slept = 0
        self.round_start = busy_cycles()

    def print_phase(self):
        """Print the result of the current phase, and the longest collection since reset."""
        collection = board.collections()[1]
        row = {
            "phase": self.phase,
            "most": self.longest,
            "rounds": self.rounds,
            "at": board.cycles(),
            "collection": collection,
        }
        print(json.dumps(row))
        self.longest = self.rounds = 0


def phase_of(controller):
    """Return the phase of the recorder."""
    recording = controller._recording
    if recording is None:
        return "boot"
    clips = recording.store.open_clips._clips
    return "film" if not clips else "clip" if clips[0].last_id is None else "seal"


round_meter = RoundMeter()
serve, wait = assembly.Device.serve, baremetal.Inputs.wait


def measured_serve(device):
    round_meter.round(device)
    serve(device)


def measured_wait(inputs, ms):
    now = busy_cycles()
    wait(inputs, ms)
    round_meter.slept += busy_cycles() - now


class Uart(baremetal.Uart):
    """A UART that stores the time when the first one was opened."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        if not round_meter.first_open:
            round_meter.first_open = busy_cycles()


def platform():
    baremetal.Uart = Uart
    return baremetal


assembly.Device.serve, baremetal.Inputs.wait = measured_serve, measured_wait
code = start(FILE, platform, print)
round_meter.print_phase()
if code == 0:
    machine.deepsleep()
