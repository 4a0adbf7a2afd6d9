"""Check this machine: Python, libraries, programs, boards, serial ports, network ports and clock.

Findings are grouped: ok; warning: something optional does not work; problem: something required does not work. Each
has the command that corrects it. With --site, a site file, its keys, certificates, ports and broker are checked too.

--bundle writes a zip for support: the findings, versions, settings, board descriptions, and the last 2 MB of each LOG.
Keys, tokens, passwords, identities of subscribers (ICCID, IMSI, IMEI, phone numbers) and positions are removed;
--positions keeps positions. Read the bundle before you send it. Exit code 1 if there are problems.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from patrolink.cli import _settings
from patrolink.core import notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.text import plural, printable

if TYPE_CHECKING:
    from patrolink.doctor.finding import Finding

EXAMPLES = (
    "patrolink doctor",
    "patrolink doctor --site site.toml",
    "patrolink doctor --bundle support.zip hub.log",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("logs", nargs="*", metavar="LOG", help="log for the bundle")
    parser.add_argument("--site", metavar="FILE", help="also check this site file and what it names")
    parser.add_argument("--bundle", metavar="FILE", help="write a support bundle (zip) to this new file")
    parser.add_argument("--positions", action="store_true", help="keep the positions in the logs of the bundle")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    from patrolink.doctor import checks
    from patrolink.doctor.finding import LEVELS, OK, PROBLEM, WARNING

    if args.logs and not args.bundle:
        raise UserError("logs are only needed for a support bundle; name its file with --bundle FILE")
    findings = checks.run(Path(args.site) if args.site else None)
    if args.bundle:
        _write_bundle(args, findings)
    counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    if args.json:
        for finding in findings:
            print_record("finding", finding._asdict())
        print_summary(
            {"ok": counts[OK], "warnings": counts[WARNING], "problems": counts[PROBLEM], "bundle": args.bundle}
        )
        return 1 if counts[PROBLEM] else 0
    for level in LEVELS:
        if counts[level]:
            print(f"{level}:", *(f"  {printable(f.line())}" for f in findings if f.level == level), sep="\n")
    print(f"{counts[OK]} ok, {plural(counts[WARNING], 'warning')}, {plural(counts[PROBLEM], 'problem')}")
    return 1 if counts[PROBLEM] else 0


def _write_bundle(args: argparse.Namespace, findings: "list[Finding]") -> None:
    from patrolink.doctor import bundle

    settings = _settings.file_path()
    configuration = [path for path in (settings, Path(args.site) if args.site else None) if path and path.is_file()]
    contents = bundle.collect(findings, configuration, map(Path, args.logs), args.positions)
    bundle.write(Path(args.bundle), contents)
    removed = f"{plural(contents.secrets, 'secret')} and {plural(contents.positions, 'position')} removed"
    notes.note(f"{args.bundle}: {plural(len(contents.files), 'file')}, {removed}; read it before you send it")
    if contents.positions:
        notes.note("the logs contain positions; if the problem is about positions, write the bundle with --positions")
