"""A report as JUnit XML, for continuous integration."""

import re
from xml.etree import ElementTree

from patrolink.conformance.case import Verdict
from patrolink.conformance.report.document import Document

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS = {
    Verdict.FAIL.value: "failure",
    Verdict.INCONCLUSIVE.value: "error",
    Verdict.NOT_APPLICABLE.value: "skipped",
    Verdict.SKIPPED.value: "skipped",
}


def render(report: Document) -> str:
    """Return the XML. A non-strict case passes and has its reason in `system-out`; a known failure is skipped."""
    known = set(report["known_failures"])
    suite = ElementTree.Element("testsuite", name=f"patrolink {report['suite']['version']} {report['tier']}")
    counts = {"failure": 0, "error": 0, "skipped": 0}
    for item in report["results"]:
        seconds = f"{item['duration_ms'] / 1000:.3f}"
        case = ElementTree.SubElement(
            suite, "testcase", name=f"{item['case']} {item['title']}", classname=item["requirement"], time=seconds
        )
        element = "skipped" if item["case"] in known else _ELEMENTS.get(item["verdict"], "")
        text = _NOT_XML.sub("\ufffd", f"{item['verdict']}: {item['reason']}")
        if element:
            counts[element] += 1
            child = ElementTree.SubElement(case, element, message=text)
            if element != "skipped":
                child.set("type", item["cause"] or item["verdict"])
        elif item["reason"]:
            ElementTree.SubElement(case, "system-out").text = text
    suite.set("tests", str(len(report["results"])))
    suite.set("failures", str(counts["failure"]))
    suite.set("errors", str(counts["error"]))
    suite.set("skipped", str(counts["skipped"]))
    suite.set("time", f"{report['duration_ms'] / 1000:.3f}")
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
