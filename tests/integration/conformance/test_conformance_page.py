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
from tests.support.polling import wait_until

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


@pytest.fixture(scope="module")
def page_of_five(tmp_path_factory):
    names = (
        "agent, board linux",
        "agent, board unix",
        "agent, board mps2_an385",
        "device in C",
        "device in C, one fault",
    )
    reports = [report_of(name, "" if number < 4 else "wrong") for number, name in enumerate(names)]
    path = tmp_path_factory.mktemp("page") / "five.html"
    path.write_text(html.render(reports, ["valid"] * 5), encoding="utf-8")
    return path


def show(browser, page, width: int, fragment: str = "") -> None:
    """Open a page in a window of this width, narrower than a desktop window can be."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get("about:blank")
    browser.get(page.as_uri() + fragment)


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


@pytest.mark.parametrize("width", [1280, 390])
def test_five_devices_are_readable_at_a_width(browser, page_of_five, width):
    """Nothing has to be scrolled sideways, with all details open, and no text is tiny or cut off."""
    show(browser, page_of_five, width)
    browser.execute_script("document.querySelectorAll('button.toggle').forEach(e => e.click())")
    sizes = browser.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth, "
        "Math.min(...[...document.querySelectorAll('main *')].map(e => parseFloat(getComputedStyle(e).fontSize))), "
        "[...document.querySelectorAll('main td, main pre, main h2, main p')].filter(e => e.scrollWidth > "
        "e.clientWidth + 1 && e.clientWidth).map(e => e.className + e.textContent.slice(0, 40))]"
    )
    assert sizes[0] <= sizes[1] == width and sizes[2] >= 12 and sizes[3] == [], sizes
    names = browser.execute_script(
        "const row = document.querySelector('tr.case'); return [...row.querySelectorAll('td.v')].map(e => "
        "[e.dataset.name, e.textContent, getComputedStyle(e, '::before').content])"
    )
    assert len(names) == 5 and names[3][0] == "device in C"
    assert (names[3][2] != "none") is (width == 390)  # in a narrow window each verdict has the name of its device
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_page_can_be_used_with_a_keyboard_and_read_aloud(browser, page_of_five):
    show(browser, page_of_five, 1280)
    state = (
        "return [document.activeElement.getAttribute('aria-expanded'), document.querySelectorAll('.detail-row').length]"
    )
    browser.execute_script("document.querySelector('button.toggle').focus()")
    for expected in (["true", 1], ["false", 0]):
        browser.switch_to.active_element.send_keys("\ue007")
        assert browser.execute_script(state) == expected
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('input, select, button, a')].filter(e => !(e.textContent.trim() || "
        "e.getAttribute('aria-label') || e.closest('label'))).map(e => e.outerHTML)"
    )
    heads = browser.execute_script("return [...document.querySelectorAll('thead th, tbody th')].map(e => e.scope)")
    assert unnamed == [] and set(heads) == {"col", "row"}
    assert browser.execute_script(
        "return [document.documentElement.lang, document.querySelectorAll('main').length]"
    ) == ["en", 1]
    assert browser.execute_script("return document.getElementById('count').getAttribute('role')") == "status"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_verdicts_have_enough_contrast(browser, page_of_five, scheme):
    """WCAG 2.1, 1.4.3: text of verdicts has a contrast of 4.5 to the page."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    show(browser, page_of_five, 1280)
    colours = browser.execute_script(
        "const luminance = c => { const [r, g, b] = c.match(/[0-9.]+/g).map(v => { v /= 255; "
        "return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); "
        "return 0.2126 * r + 0.7152 * g + 0.0722 * b; };"
        "const back = luminance(getComputedStyle(document.body).backgroundColor);"
        "return ['pass', 'fail', 'non-strict', 'skipped'].map(name => { const e = document.createElement('i');"
        " e.className = 'v ' + name; document.body.append(e); const text = luminance(getComputedStyle(e).color);"
        " return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05); });"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert min(colours) >= 4.5, colours


def test_link_to_a_filtered_case_shows_it(browser, page_of_five):
    show(browser, page_of_five, 1280)
    by_vector = {case.vector: case.id for case in suite.load() if case.vector}
    set_value(browser, "verdict", "skipped")
    assert shown(browser) == []
    browser.execute_script("location.hash = arguments[0]", by_vector[VECTORS[0]])
    wait_until(lambda: len(shown(browser)) == len(VECTORS))
    assert "frame-plain" in browser.execute_script("return document.querySelector('.detail-row').textContent")
    captures = browser.execute_script(
        "return [...document.querySelectorAll('.detail-row a.pcap')].map(e => e.download)"
    )
    assert captures == [f"{by_vector[VECTORS[0]]}.pcap"] * 5
