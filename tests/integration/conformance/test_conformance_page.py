"""The HTML report in a browser: columns, filters, links to cases, replay command and capture."""

import base64
import struct
import sys

import pytest
from patrolink.conformance import check, profile, suite
from patrolink.conformance.case import CODEC
from patrolink.conformance.report import document, html, signature
from patrolink.conformance.runner import Runner
from patrolink.conformance.testee.codec_pipe import CodecPipe
from patrolink.core import clock

from tests.support.paths import ROOT

HOSTILE = [sys.executable, str(ROOT / "tests" / "support" / "hostile_codec.py")]
VECTORS = ("frame-plain", "frame-top-counter", "hello-low", "replay-host")
MARKUP = "</script><img src=x onerror=document.title='run'>"


def report_of(name: str, mode: str) -> dict:
    """Return the report of a codec that fails its second case in one mode, or none if the mode is empty."""
    by_vector = {case.vector: case.id for case in suite.load() if case.vector}
    selection = [by_vector[vector] for vector in VECTORS]
    cases = check.select([case for case in suite.load() if case.tier == CODEC], selection)
    (step,) = next(case for case in cases if case.vector == VECTORS[1]).steps(None)
    testee = CodecPipe([*HOSTILE, mode, step.data if mode else "nothing"], clock.monotonic_ms, 1.0)
    claims = profile.complete(CODEC)._replace(name=name)
    results = list(Runner(testee, 1, clock.monotonic_ms, 60_000, claims.claims).run(cases))
    info = document.RunInfo(
        suite="1.0-1", tier=CODEC, testee=testee.describe(), clock="monotonic", seed=1,
        started="2026-11-30T20:00:00.000Z", profile=claims.fields(), selection=tuple(selection),
        replay="patrolink validate exec:./check --tier codec --seed 1",
    )  # fmt: skip
    return signature.unsigned(document.build(info, results, 1234))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    reports = [report_of("good", ""), report_of(f"wrong {MARKUP}", "wrong"), report_of("crash", "crash")]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html.render(reports, ["valid", "unsigned", "unsigned"]), encoding="utf-8")
    return path


def shown(browser) -> list[str]:
    script = "return [...document.querySelectorAll('tr.case')].filter(r => !r.hidden).map(r => r.id)"
    return browser.execute_script(script)


def set_value(browser, name: str, value) -> None:
    browser.execute_script(
        "const e = document.getElementById(arguments[0]); e.type === 'checkbox' ? e.checked = arguments[1] : "
        "e.value = arguments[1]; e.dispatchEvent(new Event('input', {bubbles: true}))", name, value,
    )  # fmt: skip


def test_page_of_several_reports(browser, page):
    browser.get(page.as_uri())
    by_vector = {case.vector: case.id for case in suite.load() if case.vector}
    first, second, _, last = (by_vector[vector] for vector in VECTORS)
    heads = browser.execute_script("return [...document.querySelectorAll('thead th')].map(e => e.textContent)")
    assert heads[:3] == ["case", "requirement", "title"] and heads[3:5] == ["good", f"wrong {MARKUP}"]
    assert browser.title == "Patrolink conformance"  # no markup of a testee was run
    assert len(shown(browser)) == len(VECTORS)
    set_value(browser, "differ", True)
    assert shown(browser) == [second]
    set_value(browser, "differ", False)
    set_value(browser, "verdict", "fail")
    assert set(shown(browser)) == {second, last}
    set_value(browser, "text", "SIGSEGV")
    assert shown(browser) == [second]
    set_value(browser, "text", "")
    set_value(browser, "verdict", "")
    set_value(browser, "requirement", "HELLO-1")
    assert shown(browser) == [by_vector["hello-low"]]


def test_link_to_a_case_opens_it(browser, page):
    by_vector = {case.vector: case.id for case in suite.load() if case.vector}
    case_id = by_vector[VECTORS[1]]
    browser.get("about:blank")
    browser.get(f"{page.as_uri()}#{case_id}")
    details = browser.execute_script("return [...document.querySelectorAll('.detail-row')].map(e => e.textContent)")
    assert len(details) == 1 and "SIGSEGV" in details[0]
    replays = browser.execute_script("return [...document.querySelectorAll('.replay')].map(e => e.textContent)")
    assert replays == [f"$ patrolink validate exec:./check --tier codec --seed 1 --replay {case_id}"] * 3
    link = browser.execute_script("return document.querySelector('.detail-row a').href")
    data = base64.b64decode(link.partition("base64,")[2])
    assert struct.unpack_from("<I", data)[0] == 0xA1B2C3D4 and b"vector-1" in data
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
