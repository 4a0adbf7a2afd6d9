"""The option --requests of `patrolink validate`: sends the requests of a file and compares the answers."""

import argparse
from pathlib import Path

from patrolink.conformance import shrink, target
from patrolink.conformance.case import CODEC
from patrolink.conformance.profile import complete
from patrolink.conformance.testee.testee import TesteeFaultError
from patrolink.core import clock
from patrolink.core.errors import UserError
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.text import plural, printable


def run(args: argparse.Namespace) -> int:
    """Print each request and its answer; return the exit code: 1 if an answer is wrong."""
    lines = shrink.read(Path(args.requests))
    testee = target.testee(target.parse(args.target[0]), CODEC, complete(CODEC), clock.monotonic_ms, args.timeout)
    fault = ""
    try:
        for reply in shrink.replies(lines, testee):
            _print(reply, args.json)
            fault = reply.fault
    except TesteeFaultError as e:
        raise UserError(f"the codec cannot be started: {e.detail}") from None
    if args.json:
        print_summary({"requests": len(lines), "wrong_answers": int(bool(fault))})
    else:
        print(printable(f"{plural(len(lines), 'request')}: {fault or 'no wrong answer'}"))
    return 1 if fault else 0


def _print(reply: shrink.Reply, as_json: bool) -> None:
    if as_json:
        fields = {"request": reply.request, "answer": reply.answer or None, "text": reply.fault or None}
        print_record("codec_reply", fields)
        return
    print(printable(f"> {reply.request}"))
    if reply.answer:
        print(printable(f"< {reply.answer}"), flush=True)
