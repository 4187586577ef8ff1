"""From a source's finding to a label of COVIDx."""

from __future__ import annotations

__all__ = ["FRONTAL_VIEWS", "first_finding", "label_of_finding"]

FRONTAL_VIEWS = frozenset(view.casefold() for view in ("PA", "AP", "AP Supine", "AP semi erect", "AP erect"))

# COVIDx v3. Any other finding is left out, "No Finding" too: of the four COVID-19 tables the published splits
# take no normal radiograph, and plain "Pneumonia", Pneumocystis, Mycoplasma, ... are not in the rule.
_LABELS = {
    "covid-19": "COVID-19",
    "sars": "pneumonia",
    "mers": "pneumonia",
    "mers-cov": "pneumonia",
    "streptococcus": "pneumonia",
    "klebsiella": "pneumonia",
    "chlamydophila": "pneumonia",
    "legionella": "pneumonia",
    "normal": "normal",
}


def first_finding(text: str) -> str:
    """Return the finding that counts: "COVID-19, ARDS" -> "COVID-19".

    The later Cohen table writes a path, "Pneumonia/Viral/COVID-19": its last part is the finding.
    """
    return text.split(",")[0].split("/")[-1].strip()


def label_of_finding(text: str) -> str | None:
    """Return the label, or None where the rules leave the finding out."""
    return _LABELS.get(first_finding(text).casefold())
