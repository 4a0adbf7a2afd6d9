"""What is found of clips, and the verdict that findings make (CLIP.md, "Verdicts")."""

from collections.abc import Iterable
from dataclasses import dataclass

VERDICTS = VALID, GAPS, TAMPERED, UNVERIFIABLE = "valid", "valid with gaps", "tampered", "unverifiable"
# Grades of a finding: two are verdicts; a gap makes `valid with gaps`; a note does not change the verdict.
GAP, NOTE = "gap", "note"


@dataclass(frozen=True)
class Finding:
    """
    grade  TAMPERED, UNVERIFIABLE, GAP or NOTE
    kind   one word or two for a machine; where: the file, or the line of it; words: for people
    """

    grade: str
    kind: str
    where: str
    words: str

    def facts(self) -> dict[str, str]:
        """Return it as JSON takes it."""
        return {"grade": self.grade, "kind": self.kind, "where": self.where, "words": self.words}


def plain(text: str) -> str:
    """Return text in one line that says nothing to a terminal: names in a manifest may be of any characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def verdict_of(findings: Iterable[Finding]) -> str:
    """Return the worst that the findings say."""
    grades = {finding.grade for finding in findings}
    if TAMPERED in grades:
        return TAMPERED
    if UNVERIFIABLE in grades:
        return UNVERIFIABLE
    return GAPS if GAP in grades else VALID
