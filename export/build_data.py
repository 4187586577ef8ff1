"""What a build takes from a data set: the radiographs that calibrate int8, checked against the run and its plan."""

from __future__ import annotations

from pathlib import Path

from export.calibration import CalibrationSet, load_calibration_set
from export.errors import ExportError
from export.quantization.plan import PLAN_NAME, QuantizationPlan
from train.data.checking import check_patients
from train.data.rows import Dataset
from train.data.tables import load_dataset, split_sha256
from train.run import Run

__all__ = ["load_build_data", "load_planned_calibration"]


def load_build_data(data: str | Path | None, run: Run, *, needed: bool, notes: list[str]) -> Dataset | None:
    """Read the data set, if one was given.

    Parameters
    ----------
    needed
        Whether the build cannot do without.
    notes
        Gets a sentence where the training split is not the run's.

    Raises
    ------
    ExportError
        None was given and one is needed; it has other classes than the run, or is of another kind.
    DataError
        It is no data set, or a patient is in two splits.
    """
    if data is None:
        if needed:
            raise ExportError(
                "no data folder was given",
                expected="the data set the run was trained on, for the calibration set and real golden inputs",
                remedy="give --data, or build with --no-int8 and without --golden-real",
            )
        return None
    dataset = load_dataset(data)
    if tuple(dataset.labels) != run.spec.labels:
        raise ExportError(
            f"the data set {data} has other classes than the run",
            got=", ".join(dataset.labels),
            expected=", ".join(run.spec.labels),
            remedy="give the data set the run was trained on",
        )
    if dataset.synthetic != run.spec.synthetic:
        kinds = {True: "synthetic radiographs", False: "radiographs of people"}
        raise ExportError(
            f"the data set {data} is of another kind than the run's",
            got=kinds[dataset.synthetic],
            expected=kinds[run.spec.synthetic],
            remedy="give the data set the run was trained on",
        )
    check_patients(dataset.splits)
    if split_sha256(data).get("train.csv") != run.spec.data_sha256.get("train.csv"):
        notes.append(
            "train.csv is not the one the run was trained with: calibration, gate and prediction sets may rest on "
            "other patients than the run."
        )
    return dataset


def load_planned_calibration(
    dataset: Dataset, labels: tuple[str, ...], count: int, plan: QuantizationPlan | None, notes: list[str]
) -> CalibrationSet:
    """Read the calibration set, and with a plan check that it is the one the plan's settings were found with.

    Parameters
    ----------
    count
        Radiographs asked for; a plan has its own number.
    notes
        Gets a sentence where there are fewer, and one where the reader refused some.

    Raises
    ------
    ExportError
        See :func:`export.calibration.load_calibration_set`; or it is another set than the plan's.
    """
    images = load_calibration_set(dataset, labels, count if plan is None else plan.calibration_radiographs)
    if plan is not None and images.sha256 != plan.calibration_sha256:
        raise ExportError(
            f"the calibration set is not the one that {PLAN_NAME} was made with",
            got=f"{len(images.rows)} radiographs, SHA-256 {images.sha256[:16]}",
            expected=f"{plan.calibration_radiographs} radiographs, SHA-256 {plan.calibration_sha256[:16]}",
            remedy="give the data set that `python -m export quantize` had, or run it again with this one",
        )
    notes.extend(images.notes)
    return images
