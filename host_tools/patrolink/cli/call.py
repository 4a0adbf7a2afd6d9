"""Run a call between two emulated devices through a hub: each device talks once, the other one listens.

Broker, hub, agents and their sockets are real; microphones, loudspeakers and the radio network are emulated. SPEECH is
a WAV file: mono, 16 bits, 8 kHz (default: synthetic syllables). --out keeps spoken.wav and heard.wav of the last burst,
the hub's recordings, and floor.pcap: the floor control messages, decrypted, for Wireshark. With --stay the hub's
console stays open for a browser until Ctrl-C. Exit code 1 if a burst was not understandable.
"""

import argparse
import contextlib
import sys
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.posix import require_posix
from patrolink.core.progress import Progress
from patrolink.core.signals import StopSignal

EXAMPLES = (
    "patrolink call --out build/call",
    "patrolink call --network lift",
)
_MIN_HEARD_PCT = 50  # of the speech: still understandable
_MAX_SPEECH_S = 60
_SPEECH_RATE_HZ = 8000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument("speech", nargs="?", metavar="SPEECH", help="WAV file: mono, 16 bits, 8 kHz")
    parser.add_argument("--board", default="unix", help="board of the first device (default: unix)")
    parser.add_argument("--other", default="linux", metavar="BOARD", help="board of the second device (default: linux)")
    parser.add_argument("--network", default="city", metavar="PROFILE", help="city, village, lift, handover or dead")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="random seed of the network (default: 1)")
    parser.add_argument("--out", metavar="DIR", help="keep the results in this folder")
    parser.add_argument("--stay", action="store_true", help="keep the console open until Ctrl-C")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    require_posix("call")
    from patrolink.core import boards
    from patrolink.emulator.network.carrier import PROFILES
    from patrolink.emulator.scenarios import call

    if args.network not in PROFILES:
        raise UserError(f"--network {args.network}: unknown profile; choose one of {', '.join(PROFILES)}")
    for name in (args.board, args.other):
        if "ptt" not in boards.find(name).features:
            raise UserError(f"board {name} has no push-to-talk; `patrolink boards` lists the features of each board")
    speech = _read_speech(Path(args.speech)) if args.speech else call.syllables()
    with contextlib.ExitStack() as stack:
        out = Path(args.out or stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-call-")))
        plan = call.Plan((args.board, args.other), speech, PROFILES[args.network], args.seed, out.absolute())
        bursts: list[dict[str, Any]] = []
        try:
            with Progress("call: start hub and devices") as progress:
                session = call.Call(plan, stack)
                for talker in (0, 1):
                    progress.label = f"call: {session.names[talker]} talks"
                    bursts.append(session.speak(talker, speech))
        except StopSignal as e:
            notes.warn(f"stopped by {e} after {len(bursts)} of 2 bursts")
            _print_results(args, bursts, {})
            raise
        if args.stay:
            _wait_stop(session.url, session.token)
        counts = session.end()
    _print_results(args, bursts, counts)
    return 0 if all(burst["heard_pct"] >= _MIN_HEARD_PCT for burst in bursts) else 1


def _print_results(args: argparse.Namespace, bursts: list[dict[str, Any]], counts: dict[str, Any]) -> None:
    if args.json:
        for burst in bursts:
            print_record("burst", burst)
        print_summary({"network": args.network, "bursts": len(bursts), "hub": counts})
        return
    for burst in bursts:
        print(
            "{talker} to {listener}: access time {access_ms} ms, mouth-to-ear delay {mouth_to_ear_ms} ms, "
            "{heard_pct} % of the speech received".format(**burst)
        )
    if args.out:
        print(f"results are in {args.out}")


def _read_speech(path: Path) -> bytes:
    try:
        with wave.open(str(path), "rb") as f:
            if (f.getnchannels(), f.getsampwidth(), f.getframerate()) != (1, 2, _SPEECH_RATE_HZ):
                raise UserError(
                    f"{path}: not mono, 16 bits, 8 kHz; convert it with ffmpeg -i FILE -ac 1 -ar 8000 OUT.wav"
                )
            return f.readframes(min(f.getnframes(), _MAX_SPEECH_S * _SPEECH_RATE_HZ))
    except (OSError, wave.Error, EOFError) as e:
        raise UserError(f"{path}: not a readable WAV file ({e}); name another file") from None


def _wait_stop(url: str, token: str) -> None:
    print(f"the console is at {url}, the token is {token}; press Ctrl-C to end", file=sys.stderr, flush=True)
    with contextlib.suppress(StopSignal):
        while True:
            time.sleep(1)
