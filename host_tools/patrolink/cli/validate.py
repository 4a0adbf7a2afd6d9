"""Run the conformance kit on an implementation of the protocol, and report a verdict for each case.

TARGET is a program (`exec:PROGRAM ARGUMENT...`), a serial port or PTY, or a broker with a device id
(`mqtt://host:1883/vest-01`). The tier codec tests a program on a pipe that answers one JSON line per request; the tier
device tests a whole device. --check verifies reports without their testees: the signature, and every verdict from the
evidence.

Exit codes: 0 every case passed, is non-strict or not applicable; 1 a case failed, was inconclusive or skipped, or a
claim or a report is not true; 2 no case was run, or the testee cannot be started; 3 an error of the profile or of the
known failures.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from patrolink.cli._arguments import non_negative_seconds
from patrolink.core import clock, notes
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.text import plural, printable

# Modules of conformance/ need libraries. They are imported where they are used, so that help works without.
if TYPE_CHECKING:
    from patrolink.conformance.runner import Result
    from patrolink.conformance.session import Session

EXAMPLES = (
    "patrolink validate 'exec:./check' --report report.json --html report.html",
    "patrolink validate 'exec:./device' --tier device --keys keys.toml --profile profile.toml",
    "patrolink validate mqtts://broker.example/vest-01 --keys keys.toml --sign release.pem --report report.json",
    "patrolink validate --check report.json --trust release.pub.pem",
    "patrolink validate exec:./check 'exec:node codec.js' --diff walk.plcap",
    "patrolink validate exec:./check --shrink failures",
)
_LIMIT_S = 600.0
_TIMEOUT_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument("target", metavar="TARGET", nargs="*", help="exec:PROGRAM..., port, or broker URL/device-id")
    parser.add_argument(
        "--tier", choices=("codec", "device"), help="what is tested (default: codec for exec:, else device)"
    )
    parser.add_argument(
        "--profile", metavar="FILE", help="claims about the implementation (default: it can do everything)"
    )
    parser.add_argument(
        "--known", metavar="FILE", help="failures that are known; they do not count as long as they stay the same"
    )
    parser.add_argument("--keys", metavar="FILE", help="keys file (default: PATROLINK_KEYS); for the tier device")
    parser.add_argument(
        "--device", metavar="ID", help="device id (default: that of the URL, or the only one with a key)"
    )
    parser.add_argument("--report", metavar="FILE", help="write the report (JSON)")
    parser.add_argument("--sign", metavar="FILE", help="sign the report with this release key (PEM)")
    parser.add_argument("--html", metavar="FILE", help="write a page; with --check, of several reports side by side")
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML")
    parser.add_argument(
        "--check", metavar="REPORT", action="append", help="check a report instead of a target; repeatable"
    )
    parser.add_argument(
        "--trust", metavar="FILE", help="public keys of signers (PEM) that --check believes (default: any)"
    )
    parser.add_argument(
        "--replay", metavar="CASE", action="append", help="run only this case, and print its steps; repeatable"
    )
    parser.add_argument(
        "--shrink",
        metavar="FOLDER",
        help="write the shortest failing sequence of each failed codec case to this folder",
    )
    parser.add_argument(
        "--requests", metavar="FILE", help="send the requests of a file of --shrink, and compare the answers"
    )
    _add_limits(parser)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--diff", metavar="CAPTURE", help="compare how codecs read the frames of a capture")
    parser.add_argument("--suite", metavar="VERSION", help="version of the suite (default: the newest)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of random inputs (default: 1)")
    parser.add_argument(
        "--limit", metavar="S", type=non_negative_seconds, default=_LIMIT_S,
        help=f"seconds for the run; later cases are skipped (default: {_LIMIT_S:.0f})",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", metavar="S", type=non_negative_seconds, default=_TIMEOUT_S,
        help=f"seconds for an answer of a codec (default: {_TIMEOUT_S:.0f})",
    )  # fmt: skip
    parser.add_argument("--example", choices=("codec", "device"), help="print a profile of this tier to fill in")
    parser.add_argument(
        "--starter",
        metavar="FOLDER",
        help="write specification, C codec, vectors and examples to a new folder",
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    if args.example:
        return _print_example(args)
    if args.starter:
        return _write_starter(args)
    if args.check:
        return _check(args)
    if not args.target or (len(args.target) > 1 and not args.diff):
        count = "several targets" if args.target else "no target"
        raise UserError(f"{count}; write one: exec:PROGRAM ARGUMENT..., a serial port, or mqtt://host:1883/device-id")
    if args.diff:
        from patrolink.cli import _differences

        return _differences.run(args)
    if args.requests:
        from patrolink.cli import _requests

        return _requests.run(args)
    from patrolink.conformance.report import terminal
    from patrolink.conformance.session import Session

    session = Session(args, clock.monotonic_ms, clock.unix_ms)
    from patrolink.core.progress import Progress

    with Progress("validate", len(session.cases), "cases") as progress:
        for result in session.run():
            progress.advance(1)
            _print(result, args)
            _shrink(session, result, args)
    report = session.finish()
    for line in session.known_errors:
        notes.error(line)
    for finding in report["findings"]:
        notes.error(f"claim {finding['claim']}: {finding['text']}")
    if args.json:
        print_summary({**terminal.counts(session.results), "coverage_pct": report["coverage"]["percent"]})
    else:
        print(terminal.summary_line(session.results, report["coverage"]))
    return _exit_code(session, bool(report["findings"]))


def _exit_code(session: "Session", contradicted: bool) -> int:
    from patrolink.conformance.profile import EXIT_CODE
    from patrolink.conformance.report import terminal

    code = terminal.exit_code(session.results, session.known_failures)
    if code == 2:
        return code
    if session.known_errors:
        return EXIT_CODE
    return 1 if contradicted else code


def _print_example(args: argparse.Namespace) -> int:
    from patrolink.conformance import profile

    text = profile.example(args.example)
    if args.json:
        print_record("example", {"text": text})
    else:
        print(text, end="")
    return 0


def _write_starter(args: argparse.Namespace) -> int:
    from patrolink.conformance import starter

    files = starter.write(Path(args.starter))
    if args.json:
        print_summary({"written_files": files})
    else:
        print(f"{plural(files, 'file')} in {args.starter}; begin with {args.starter}/SPEC.md")
    return 0


def _print(result: "Result", args: argparse.Namespace) -> None:
    from patrolink.conformance.report import terminal

    if args.json:
        print_record("case_result", terminal.fields(result))
        return
    for line in terminal.exchanges(result) if args.replay else ():
        print(printable(line), flush=True)
    if line := terminal.line(result, bool(args.replay)):
        print(line, flush=True)


def _shrink(session: "Session", result: "Result", args: argparse.Namespace) -> None:
    """Hand over the shortest failing sequence of a case, as a file with --shrink, on the terminal with --replay."""
    if not args.shrink and (args.json or not args.replay):
        return
    shortest = session.shortest_failing(result)
    if shortest is None:
        return
    if args.shrink:
        path, command = session.hand_over(result, shortest, Path(args.shrink))
        if args.json:
            fields = {"case": result.case.id, "requests": len(shortest.lines), "requests_before": shortest.whole}
            print_record("failing_sequence", {**fields, "file": str(path), "command": command})
        else:
            print(
                printable(f"{'':14} {plural(len(shortest.lines), 'request')} of {shortest.whole}: {command}"),
                flush=True,
            )
    elif shortest.fault:
        print(printable(f"shortest failing sequence ({len(shortest.lines)}): {shortest.fault}"))
        for request in shortest.lines:
            print(printable(f"  {request}"), flush=True)


def _check(args: argparse.Namespace) -> int:
    from patrolink.conformance import check
    from patrolink.conformance.report import html, signature
    from patrolink.core import keys
    from patrolink.flash.image import release_key

    trusted = None
    if args.trust:
        trusted = {point.hex() for point in release_key.load_trust_store(Path(args.trust)).points()}
    known_keys = keys.find(args.keys, None)
    reports = [signature.read(Path(name)) for name in args.check]
    states, wrong = [], False
    for name, report in zip(args.check, reports, strict=True):
        findings = check.findings(report, known_keys, trusted)
        states.append("valid" if not findings else signature.state(report) + ", not confirmed")
        wrong |= bool(findings)
        if args.json:
            print_record("checked_report", {"report": name, "confirmed": not findings, "contradictions": findings})
            continue
        print(printable(f"{name}: {'not confirmed' if findings else check.confirmation(report)}"))
        for finding in findings:
            print(printable(f"  {finding}"))
    if args.html:
        Path(args.html).write_text(html.render(reports, states), encoding="utf-8")
    if args.json:
        print_summary({"reports": len(reports)})
    return 1 if wrong else 0
