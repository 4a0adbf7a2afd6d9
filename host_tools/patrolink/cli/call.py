"""Let two emulated devices talk through a hub: one presses and speaks, the other hears, then the other way round.

Broker, hub, agents and their sockets are real; microphones, speakers and the air are emulated. SPEECH is a WAV file,
mono, 16 bits, 8 kHz (default: syllables of tones). --out keeps spoken.wav and heard.wav (of the last call), the hub's
recordings, and floor.pcap, its floor control in plain for Wireshark. With --stay the hub's console stays open for a
browser until Ctrl-C. Exit code 1 when a call was not heard.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

from patrolink.core.errors import UserError
from patrolink.core.signals import StopSignal

_HEARD_PCT = 50  # of what was said: what loss leaves of a call that can be understood
HELP = "let two emulated devices talk through a hub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("speech", nargs="?", metavar="SPEECH", help="a WAV file, mono, 16 bits, 8 kHz")
    parser.add_argument("--board", default="unix", help="of the first device")
    parser.add_argument("--other", default="linux", metavar="BOARD", help="of the second device")
    parser.add_argument("--network", default="city", metavar="PROFILE", help="city, village, lift, handover or dead")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the network")
    parser.add_argument("--out", metavar="DIR", help="leave the results there")
    parser.add_argument("--stay", action="store_true", help="keep the console open until Ctrl-C")


def run(args: argparse.Namespace) -> int:
    from patrolink.core import boards
    from patrolink.emulator.network.carrier import PROFILES
    from patrolink.emulator.scenarios import call

    if args.network not in PROFILES:
        raise UserError(f"--network {args.network}: {', '.join(PROFILES)}")
    for name in (args.board, args.other):
        if "ptt" not in boards.find(name).features:
            raise UserError(f"board {name} has no push-to-talk (`patrolink boards` lists what each can do)")
    speech = _speech(Path(args.speech)) if args.speech else call.syllables()
    with contextlib.ExitStack() as stack:
        out = Path(args.out or stack.enter_context(tempfile.TemporaryDirectory(prefix="patrolink-call-")))
        plan = call.Plan((args.board, args.other), speech, PROFILES[args.network], args.seed, out.resolve())
        it = call.Call(plan, stack)
        bursts: list[dict[str, Any]] = []
        try:
            for talker in (0, 1):
                bursts.append(it.speak(talker, speech))
        except StopSignal as e:
            print(f"stopped by {e} after {len(bursts)} of 2 bursts", file=sys.stderr)
            _tell(args, bursts, {})
            raise
        if args.stay:
            _stay(it.url, it.token)
        counts = it.end()
    _tell(args, bursts, counts)
    return 0 if all(burst["heard_pct"] >= _HEARD_PCT for burst in bursts) else 1


def _tell(args: argparse.Namespace, bursts: list[dict[str, Any]], counts: dict[str, Any]) -> None:
    if args.json:
        print(json.dumps({"network": args.network, "bursts": bursts, "hub": counts}))
    else:
        for burst in bursts:
            print(
                "{from} to {to}: floor after {access_ms} ms, mouth to ear {mouth_to_ear_ms} ms, "
                "{heard_pct} % heard".format(**burst)
            )
        if args.out:
            print(f"results are in {args.out}")


def _speech(path: Path) -> bytes:
    try:
        with wave.open(str(path), "rb") as f:
            if (f.getnchannels(), f.getsampwidth(), f.getframerate()) != (1, 2, 8000):
                raise UserError(f"{path}: mono, 16 bits, 8 kHz is needed (ffmpeg -i FILE -ac 1 -ar 8000 OUT.wav)")
            return f.readframes(min(f.getnframes(), 60 * 8000))
    except (OSError, wave.Error, EOFError) as e:
        raise UserError(f"{path}: no WAV file that can be read ({e})") from None


def _stay(url: str, token: str) -> None:
    print(f"the console is at {url}, its token is {token}; Ctrl-C ends", file=sys.stderr)
    with contextlib.suppress(StopSignal):
        while True:
            time.sleep(1)
