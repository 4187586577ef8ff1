"""Whether an artifact that may differ from the full model still holds the classes in the manifest's order.

At fp32 the golden vectors decide: a swapped class is a difference far above what conversion may do. Of a quantized
artifact any difference is accepted when it is built, so two swapped classes would pass as bad quantization.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from edge_runtime.bundle import Bundle
from edge_runtime.golden import load_golden
from edge_runtime.manifest import Artifact
from edge_runtime.predictor import Predictor
from export.errors import ParityFailure

__all__ = ["better_order", "check_label_order"]

_CLEARLY = 0.5
"""Another order is the artifact's own if it halves the squared distance to the full model's logits, or more."""


def check_label_order(bundle: Bundle, artifacts: Sequence[Artifact]) -> None:
    """Run the artifacts that are not fp32 on the golden vectors and check the order of their classes.

    Raises
    ------
    ParityFailure
        The logits fit the full model's in another order of the classes.
    EdgeRuntimeError
        An artifact cannot be opened or run.
    """
    vectors = load_golden(bundle)
    wanted = np.concatenate([vector.outputs["logits"] for vector in vectors]).astype(np.float64)
    for artifact in artifacts:
        if artifact.precision == "fp32":
            continue
        with Predictor.open(bundle, artifact.name) as predictor:
            got = np.concatenate([predictor.run_raw(vector.pixels)["logits"] for vector in vectors]).astype(np.float64)
        order = better_order(got, wanted)
        if order is not None:
            labels = bundle.manifest.labels
            raise ParityFailure(
                f"{artifact.name} holds the classes in another order",
                got=", ".join(labels[index] for index in order),
                expected=", ".join(labels),
                remedy="make it from the graph of this bundle's run, its outputs in the order of `labels`",
            )


def better_order(got: NDArray[np.float64], wanted: NDArray[np.float64]) -> tuple[int, ...] | None:
    """Return the order in which logits fit others clearly better than as they are; None where there is none.

    A constant added to all logits of a radiograph changes no probability and is taken off first.

    Parameters
    ----------
    got, wanted
        float [N, C], of the same N radiographs.

    Returns
    -------
    tuple or None
        For each place in ``got`` the class of ``wanted`` that it holds.
    """
    got, wanted = (logits - logits.mean(1, keepdims=True) for logits in (got, wanted))
    distance = np.square(got[:, :, None] - wanted[:, None, :]).sum(0)  # [place, class]
    if not np.isfinite(distance).all():
        return None  # no numbers: the self-test counts these as the largest difference
    places, classes = linear_sum_assignment(distance)
    best = float(distance[places, classes].sum())
    if best > _CLEARLY * float(np.trace(distance)) or list(classes) == list(places):
        return None
    return tuple(int(index) for index in classes)
