"""The verbs of `patrolink`: what the top-level help and the start-up need without an import of their modules."""

from typing import NamedTuple


class Verb(NamedTuple):
    """Entry of a verb.

    Attributes:
        help: One line for the list of verbs.
        extra: Extra of the package that installs the libraries of the verb; empty if the package itself is enough.
    """

    help: str
    extra: str


VERBS = {
    "boards": Verb("list boards, and the packages that are missing to run them", ""),
    "call": Verb("run a call between two emulated devices through a hub", "emulator"),
    "clip": Verb("list, fetch, verify, show and export clips", "video"),
    "completion": Verb("print the script that completes words in bash, zsh or fish", ""),
    "decode": Verb("decode a capture to jsonl, csv, geojson, gpx, npz, parquet or pcap", "report"),
    "devices": Verb("list serial ports", ""),
    "dissector": Verb("install the dissector for Wireshark and tshark", ""),
    "doctor": Verb("check this machine; write a support bundle", ""),
    "emulate": Verb("run a device on an emulated board", "emulator"),
    "fix": Verb("decode an NMEA log to fixes with the device's code", "emulator"),
    "flash": Verb("write an image to devices on ports, many at once", "flash"),
    "floor": Verb("watch who has the floor of which group", "hub"),
    "hub": Verb("run floor control, voice relay, recorder and console of talk groups", "hub"),
    "hub bar": Verb("bar a device from a site, at once and without a restart of the hub", "hub"),
    "hub unbar": Verb("admit a barred device again", "hub"),
    "image": Verb("build, sign, inspect and compare images of firmware", "flash"),
    "incident": Verb("record an SOS on an emulated device, then verify and export the clip", "emulator"),
    "ledger": Verb("verify a ledger, and list which devices are done", ""),
    "listen": Verb("listen to groups on the loudspeaker, or into a file", "hub"),
    "live": Verb("watch a device's camera in a player, or into a file", "video"),
    "monitor": Verb("watch a broker, serial port, PTY or capture", ""),
    "ota": Verb("update devices over the air: plan, start, pause and watch campaigns", "hub"),
    "pack": Verb("encode a track (csv, gpx, nmea) as a capture; print bytes per fix", "report"),
    "provision": Verb("give devices keys, talk groups, configurations and labels", "flash"),
    "selftest": Verb("run the self-test of a device at hand-over, over its console", "flash"),
    "talk": Verb("talk in a group: a sound file or the microphone", "hub"),
    "validate": Verb("test an implementation of the protocol and write a report", ""),
}
CLIP_VERBS = {
    "list": "list the clips of a hub or of a folder",
    "fetch": "download clips from a hub and verify them",
    "verify": "verify that clips are what devices recorded",
    "show": "show what clips contain and write their contact sheets",
    "export": "export clips as film, track and evidence sheet",
}
IMAGE_VERBS = {
    "build": "build the image of a board",
    "key": "create a release key",
    "sign": "sign an image with a release key",
    "inspect": "show what an image contains and who signed it",
    "diff": "make the delta between two agent images",
}
OTA_VERBS = {
    "plan": "plan a campaign: images, devices and limits; nothing is sent",
    "start": "start a campaign, or start it again",
    "pause": "pause a campaign",
    "status": "show campaigns and the state of their devices",
    "remove": "remove a campaign that does not run",
}
GROUPS = {"clip": CLIP_VERBS, "image": IMAGE_VERBS, "ota": OTA_VERBS}  # verbs that have verbs of their own
