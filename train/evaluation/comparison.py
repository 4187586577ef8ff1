"""The seed project's comparison table, as published, with our row beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from train.evaluation.metrics import Result
from train.model import count_parameters
from train.run import RunSpec

__all__ = [
    "NOT_COMPARABLE",
    "PUBLISHED",
    "SEED_SPECIFICITIES",
    "ComparisonRow",
    "SeedSpecificity",
    "multiply_adds",
    "our_row",
]

COVID_LABEL = "COVID-19"


@dataclass(frozen=True)
class ComparisonRow:
    """One network. Shares in percent, as the sources print them; None: not published, or not known."""

    name: str
    parameters_m: float | None
    """Millions."""
    macs_g: str | None
    """Multiply-adds, thousands of millions; several where several input sizes were used."""
    accuracy: float | None
    covid_sensitivity: float | None
    covid_ppv: float | None
    tested_on: str
    source: str
    checked: str
    """How far the figures were checked against a primary source."""
    ours: bool = False


@dataclass(frozen=True)
class SeedSpecificity:
    """A specificity that the seed published, and the right one from the same counts."""

    label: str
    tp: int
    fp: int
    fn: int
    total: int
    published: float | None
    """As printed, where the printed figure follows from the counts by the seed's formula; else None."""

    @property
    def seed_formula(self) -> float:
        """With TN = N - TP."""
        wrong = self.total - self.tp
        return wrong / (wrong + self.fp)

    @property
    def right(self) -> float:
        """With TN = N - TP - FP - FN."""
        tn = self.total - self.tp - self.fp - self.fn
        return tn / (tn + self.fp)


_PAPER = "Wang, Lin & Wong 2020, COVID-Net, Scientific Reports 10:19549 (arXiv 2003.09871)"
_COVIDX = "COVIDx test split, 100 COVID-19 images"
_UNCHECKED = "not checked: the paper was not at hand"

PUBLISHED = (
    ComparisonRow("VGG-19", 20.37, "89.63", 83.0, 58.7, 98.4, _COVIDX, _PAPER, _UNCHECKED),
    ComparisonRow("ResNet-50", 24.97, "17.75", 90.6, 83.0, 98.8, _COVIDX, _PAPER, _UNCHECKED),
    ComparisonRow(
        "COVID-Net",
        11.75,
        "7.50",
        93.3,
        91.0,
        98.9,
        _COVIDX,
        _PAPER,
        "checked against the COVID-Net repository (COVIDNet-CXR3-B: 11.7 M, 7.50 G, 93.3, 91.0, 98.9)",
    ),
    ComparisonRow(
        "Fast-Efficient-Covid (report)",
        7.8,
        "0.718 / 2.576 / 4.343 at 240 / 450 / 600 px",
        95.4,
        93.0,
        None,
        "COVIDx v3 test split",
        "the seed project's report",
        "multiply-adds at 240 px checked against the seed's repository; the rest of the row not; PPV unknown",
    ),
    ComparisonRow(
        "Fast-Efficient-Covid (repository)",
        7.8,
        "0.718 at 240 px",
        94.8,
        90.3,
        96.6,
        "COVIDx test split, 1,510 images, 31 COVID-19",
        "README of the seed's modelling repository",
        "sensitivity and PPV as printed there; accuracy worked out from its sensitivities and counts (1,432 / 1,510)",
    ),
)

SEED_SPECIFICITIES = (
    SeedSpecificity("normal", 844, 36, 41, 1510, None),
    SeedSpecificity("pneumonia", 560, 41, 34, 1510, 0.958628),
    SeedSpecificity("COVID-19", 28, 1, 3, 1510, 0.999326),
)
"""The seed's repository run on its test split; counts follow from its printed sensitivities and precisions."""

NOT_COMPARABLE = (
    "Another test set. The published rows were measured on COVIDx test splits of about 300 to 1,600 images; ours is "
    "the split named in this report: other images in other proportions, on which PPV and accuracy depend.",
    "Another amount of data. The published networks were trained on about 13,900 images and start from ImageNet "
    "weights; see the run's facts for ours.",
    "Published figures carry no intervals. With 100 COVID-19 images a sensitivity of 91 % is anything from 84 % "
    "to 95 %.",
    "Multiply-adds are counted in different ways. Ours count convolutions and matrix products (torch's "
    "FlopCounterMode, halved); the seed's counter also counts batch norm and additions. They grow with the input size.",
    "All of these data sets tie class to hospital: a higher figure here need not mean more knowledge of disease.",
)


def multiply_adds(model: nn.Module, size: int) -> int:
    """Multiply-adds of convolutions and matrix products for one image of size x size, by torch's FlopCounterMode."""
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.zeros(1, 3, size, size, device=device))
    return int(counter.get_total_flops() // 2)


def our_row(spec: RunSpec, model: nn.Module, result: Result, split: str, labels: Sequence[str]) -> ComparisonRow:
    """Return the evaluated run's row."""
    covid = result.classes[labels.index(COVID_LABEL)] if COVID_LABEL in labels else None
    cases = f", {covid.cases} {COVID_LABEL}" if covid else ""
    synthetic = " SYNTHETIC," if spec.synthetic else ""
    return ComparisonRow(
        name=f"This run ({spec.architecture})",
        parameters_m=count_parameters(model) / 1e6,
        macs_g=f"{multiply_adds(model, spec.image_size) / 1e9:.3f} at {spec.image_size} px",
        accuracy=_percent(result.accuracy.value),
        covid_sensitivity=_percent(covid.sensitivity.value) if covid else None,
        covid_ppv=_percent(covid.ppv.value) if covid else None,
        tested_on=f"{split} split,{synthetic} {result.images:,} images{cases}",
        source="this report",
        checked="measured",
        ours=True,
    )


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
