"""Parameters and multiply-adds, beside the seed's."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from train.count_command import count_command
from train.counting import SEED_MULTIPLY_ADDS, Counting, count_classifier


@pytest.fixture(scope="module")
def counting() -> Counting:
    return count_classifier("efficientnet_b1", 3, tuple(SEED_MULTIPLY_ADDS))


def test_parameters(counting: Counting) -> None:
    assert counting.parameters == 7_831_584


def test_multiply_adds(counting: Counting) -> None:
    assert [round(c.multiply_adds / 1e9, 3) for c in counting.counts] == [0.687, 2.464, 4.149]


def test_the_seeds_rules_give_the_seeds_figures(counting: Counting) -> None:
    for count in counting.counts:
        assert count.by_the_seeds_rules == pytest.approx(SEED_MULTIPLY_ADDS[count.size], rel=2e-3)
        # Multiply-adds alone do not, nor do batch norms alone: the comparison can fail.
        assert count.multiply_adds != pytest.approx(SEED_MULTIPLY_ADDS[count.size], rel=2e-2)
        without = count.by_the_seeds_rules - count.operations["pooling"] - count.operations["squeeze-excite products"]
        assert without != pytest.approx(SEED_MULTIPLY_ADDS[count.size], rel=5e-3)


def test_both_counts_agree_on_convolutions_and_linear_layers(counting: Counting) -> None:
    for count in counting.counts:
        both = count.operations["convolutions"] + count.operations["linear layers"]
        # The seed's rules add the biases of the squeeze-excite layers.
        assert 0 <= both - count.multiply_adds < 1e-4 * count.multiply_adds


def test_the_command_takes_sizes_and_prints_json() -> None:
    result = CliRunner().invoke(count_command, ["--architecture", "mobilenetv2_wd4", "--sizes", "64", "96", "--json"])
    assert result.exit_code == 0, result.output
    counts = json.loads(result.output)["counts"]
    assert [c["size"] for c in counts] == [64, 96]
    assert counts[0]["seed"] is None
    assert counts[1]["multiply_adds"] > 1.5 * counts[0]["multiply_adds"]
