"""One half of a hub as a process: `python -m patrolink.hub.half_process HALF SITE [--shard N] [--pcap FILE]`.

The supervisor starts it. On standard input, GO lets it begin and STOP ends it in order; the end of standard input,
which is the end of the supervisor, ends it at once. Standard output has JSON lines: `ready` with the hub's addresses,
`error` with text and exit code if the half cannot start, and `metrics` at the end. Stop signals are ignored: they are
for the supervisor.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from patrolink.core import signals
from patrolink.core.errors import UserError
from patrolink.hub.channel.streams import ConnectingEnd, ListeningEnd
from patrolink.hub.config import HubContext
from patrolink.hub.infra.instance_lock import SERVICE, VOICE, InstanceLock
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.platform import SystemPlatform
from patrolink.hub.process_commands import GO, STOP
from patrolink.hub.voice.voice_half import VoiceHalf

_LOCKS = {"voice": VOICE, "service": SERVICE}  # by half
_SOCKET = Path("voice.sock")  # in the folder of the hub's state, which becomes the current one: socket paths are short
_THREAD_SWITCH_S = 0.0005  # threads that write and publish must not delay the event loop


def _report(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def _ready(facts: dict[str, Any]) -> None:
    gc.collect()
    gc.freeze()  # otherwise each collection visits thousands of devices and keys, and delays voice
    _report(ready=facts)


def _begins() -> bool:
    """Wait until the half may begin. Returns False if it is stopped before."""
    command = os.read(sys.stdin.fileno(), 1)
    if not command:
        os._exit(1)
    return command == GO


async def _serve(half: str, context: HubContext, pcap: Path | None) -> None:
    stop = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _on_command, stop)
    platform, metrics = SystemPlatform(), Metrics()
    if half == "voice":
        voice = VoiceHalf(context, platform, ListeningEnd(_SOCKET, metrics), metrics, pcap)
        await voice.run(stop, lambda: _ready({}))
    else:
        from patrolink.hub.service_half import ServiceHalf

        service = ServiceHalf(context, platform, ConnectingEnd(_SOCKET, metrics), metrics)
        await service.run(stop, _ready)
    site = {"site": context.site.name, "shard": context.hub.shard}
    _report(metrics=vars(metrics.snapshot()), **site)


def _on_command(stop: "asyncio.Future[None]") -> None:
    command = os.read(sys.stdin.fileno(), 1)
    if not command:
        os._exit(1)  # the supervisor was killed; another one may be starting
    if command == STOP and not stop.done():
        stop.set_result(None)


def main() -> int:
    """Run a half until it is stopped, and return the exit code."""
    signals.ignore()
    parser = argparse.ArgumentParser()
    parser.add_argument("half", choices=_LOCKS)
    parser.add_argument("site", type=Path)
    parser.add_argument("--shard", type=int)
    parser.add_argument("--pcap", type=Path)
    args = parser.parse_args()
    sys.setswitchinterval(_THREAD_SWITCH_S)
    pcap = args.pcap.resolve() if args.pcap else None
    if args.half == "service":
        import patrolink.hub.service_half  # noqa: F401 - while the voice starts; voice does not need the HTTP server
    if not _begins():
        return 0
    try:
        context = HubContext(args.site, args.shard)
        context.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chdir(context.state)
        with contextlib.closing(InstanceLock(context.state, _LOCKS[args.half])):
            asyncio.run(_serve(args.half, context, pcap))
    except UserError as e:
        _report(error=str(e), exit_code=e.exit_code)
        return e.exit_code
    except OSError as e:
        if e.filename is None:
            raise
        _report(error=f"{e.filename}: {e.strerror}; choose a writable location", exit_code=UserError.exit_code)
        return UserError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
