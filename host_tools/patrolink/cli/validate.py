"""Run the conformance kit on an implementation of the protocol, and report a verdict for each case.

TARGET is a program (`exec:PROGRAM ARGUMENT...`), a serial port or a broker with a device id
(`mqtt://host:1883/vest-01`). Tier codec tests a program on a pipe that answers one JSON line per request
(protocol/vectors/check.c); tier device tests a whole device.

Exit codes: 0 every case passed, is non-strict or not applicable; 1 a case failed, was inconclusive or skipped; 2 no
case was run, or the testee cannot be started; 3 an error of the profile or of the known failures.
"""

import argparse
import shlex
from typing import TYPE_CHECKING

from patrolink.core import clock
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary

if TYPE_CHECKING:
    from patrolink.conformance.runner import Result
    from patrolink.conformance.testee.testee import Testee

EXAMPLES = (
    "patrolink validate 'exec:./check'",
    "patrolink validate 'exec:node codec.js' --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument("target", metavar="TARGET", help="exec:PROGRAM ARGUMENT...")
    parser.add_argument("--tier", choices=("codec", "device"), default="codec", help="what is tested (default: codec)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of random inputs (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    from patrolink.conformance import suite
    from patrolink.conformance.report import terminal
    from patrolink.conformance.runner import Runner

    cases = [case for case in suite.load() if case.tier == args.tier]
    if not cases:
        raise UserError("no case matches; nothing was tested")
    results = []
    for result in Runner(_testee(args), args.seed, clock.monotonic_ms, 600_000).run(cases):
        results.append(result)
        _print(result, args.json)
    if args.json:
        print_summary(terminal.counts(results))
    else:
        print(terminal.summary_line(results))
    return terminal.exit_code(results)


def _testee(args: argparse.Namespace) -> "Testee":
    from patrolink.conformance.testee.codec_pipe import CodecPipe

    kind, _, command = args.target.partition(":")
    words = shlex.split(command)
    if kind != "exec" or not words:
        raise UserError(f"{args.target}: not a target; write exec:PROGRAM ARGUMENT...")
    return CodecPipe(words, clock.monotonic_ms)


def _print(result: "Result", as_json: bool) -> None:
    from patrolink.conformance.report import terminal

    if as_json:
        print_record("case_result", terminal.fields(result))
    elif line := terminal.line(result):
        print(line, flush=True)
