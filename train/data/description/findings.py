"""The description's main sentences, in plain words, the most important first."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from train.data.description.attributes import UNKNOWN, Described
from train.data.description.record import Association, Check, EmbeddingMap

__all__ = ["percent", "write_findings"]


def write_findings(
    images: Sequence[Described],
    labels: Sequence[str],
    synthetic: bool,
    associations: Sequence[Association],
    checks: Sequence[Check],
    embedding_map: EmbeddingMap | None,
) -> list[str]:
    """Say what a reader must know before using the data set."""
    sentences = []
    if synthetic:
        sentences.append("These radiographs are SYNTHETIC, drawn by a program: they say nothing about people.")
    sentences.append(_source(images, labels, next(a for a in associations if a.attribute == "source")))
    others = [a for a in associations if a.attribute not in ("source", "size") and a.guess - a.guess_without >= 0.1]
    if others:
        said = ", ".join(
            f"{a.attribute} {percent(a.guess)}" for a in sorted(others, key=lambda a: a.guess, reverse=True)
        )
        sentences.append(
            f"Other facts give the class away too. Guessed from one alone, the class is right for: {said} "
            f"(without any: {percent(others[0].guess_without)})."
        )
    found = [check.sentence for check in checks if not check.passed]
    sentences += found or [f"All {len(checks)} leakage checks passed."]
    sentences += _balance(images, labels)
    missing = [
        f"{attribute} {percent(share)}"
        for attribute in ("view", "age", "sex")
        if (share := sum(image.values[attribute] == UNKNOWN for image in images) / len(images)) >= 0.05
    ]
    if missing:
        sentences.append(f"Not known, of all images: {', '.join(missing)}.")
    if embedding_map is not None:
        sentences.append(_results(embedding_map))
    return sentences


def percent(share: float) -> str:
    """A share as a whole percentage, never rounded to 0 or to 100 when it is not; its space does not break."""
    if 0 < share < 0.005:
        return "under 1\u00a0%"
    if 0.995 <= share < 1:
        return "over 99\u00a0%"
    return f"{100 * share:.0f}\u00a0%"


def _source(images: Sequence[Described], labels: Sequence[str], association: Association) -> str:
    if association.values < 2:
        only = images[0].values["source"]
        return f"All images come from one source ({only}), so class and source cannot be told apart or compared."
    of_label: dict[str, set[str]] = defaultdict(set)
    of_source: dict[str, set[str]] = defaultdict(set)
    for image in images:
        of_label[image.row.label].add(image.values["source"])
        of_source[image.values["source"]].add(image.row.label)
    lone = [source for source, found in sorted(of_source.items()) if len(found) == 1]
    present = sum(bool(of_label[label]) for label in labels)
    complete = [source for source, found in of_source.items() if len(found) == present]
    confounded = not complete or association.guess - association.guess_without > 0.1
    start = "Class and source are confounded" if confounded else "Class and source go together"
    strength = "" if association.cramers_v is None else f", Cramér's V {association.cramers_v:.2f}"
    text = (
        f"{start} ({association.words}{strength}): knowing nothing but the source, the class is guessed right for "
        f"{percent(association.guess)} of images, without it for {percent(association.guess_without)}."
    )
    if not complete:
        text += " No source has all classes."
    if lone:
        text += f" Only one class each comes from: {', '.join(f'{s} ({next(iter(of_source[s]))})' for s in lone)}."
    return text + " A model can score high by recognising the hospital." * (not complete)


def _balance(images: Sequence[Described], labels: Sequence[str]) -> list[str]:
    counts = Counter(image.row.label for image in images if image.split == "train")
    absent = [label for label in labels if not counts[label]]
    if absent:
        return [f"The training split has no image of: {', '.join(absent)}."]
    most, least = max(labels, key=lambda n: counts[n]), min(labels, key=lambda n: counts[n])
    if counts[most] < 1.5 * counts[least]:
        return []
    ratio = counts[most] / counts[least]
    return [f"In training {most} has {ratio:.1f} times as many images as {least} ({counts[most]} and {counts[least]})."]


def _results(embedding_map: EmbeddingMap) -> str:
    said = ", ".join(f"{result.split} {result.right} of {result.shown}" for result in embedding_map.results)
    text = f"The run calls right: {said}."
    if embedding_map.same_tables:
        return text + " It was trained on the training split, so being right there shows little."
    return text + " It was trained on other tables than these: the split names say nothing about what it has seen."
