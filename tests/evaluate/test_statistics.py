"""pass@k, cons@k and the intervals, against numbers worked out by hand."""

import numpy as np
import pytest

from r1kit.errors import DataError
from r1kit.evaluate.statistics import (
    bootstrap_interval,
    calibration_error,
    majority_score,
    paired_difference,
    pass_at_k,
)


def test_pass_at_k_is_the_chance_of_a_right_one_among_k():
    # 4 samples, 1 right: of the 6 pairs, 3 hold it
    assert pass_at_k(4, 1, 2) == pytest.approx(0.5)
    assert pass_at_k(4, 1, 1) == pytest.approx(0.25)
    assert pass_at_k(4, 0, 4) == 0.0
    assert pass_at_k(4, 3, 2) == 1.0  # two wrong ones can't be drawn


def test_majority_takes_the_most_frequent_answer_right_or_wrong():
    assert majority_score([("7", True), ("7", True), ("8", False)]) == 1.0
    assert majority_score([("7", True), ("8", False), ("8", False)]) == 0.0


def test_a_tied_majority_is_averaged_whatever_the_order():
    votes = [("7", True), ("8", False), ("9", False), ("7", True), ("8", False)]
    assert majority_score(votes) == majority_score(votes[::-1]) == 0.5
    assert majority_score([("1", False), ("2", True), ("3", False)]) == pytest.approx(1 / 3)


def test_a_sample_without_an_answer_has_no_vote():
    assert majority_score([(None, False), (None, False), ("7", True)]) == 1.0
    assert majority_score([(None, False)]) == 0.0


def test_the_interval_has_the_width_of_the_mean_s_standard_error():
    scores = [0.0, 1.0] * 200  # mean 0.5, standard error 0.5 / 20 = 0.025: 0.5 -+ 1.96 x 0.025
    low, high = bootstrap_interval(scores, num_bootstrap=4000, seed=0)
    assert low == pytest.approx(0.451, abs=0.005)
    assert high == pytest.approx(0.549, abs=0.005)
    assert (low, high) == bootstrap_interval(scores, num_bootstrap=4000, seed=0)


def test_a_constant_score_has_an_interval_of_no_width():
    assert bootstrap_interval([0.25] * 7, num_bootstrap=1500, seed=3) == (0.25, 0.25)


def test_pairing_cancels_the_problems_own_difficulty():
    hard = np.random.default_rng(0).random(100)
    a = {str(i): float(value) + 0.1 for i, value in enumerate(hard)}
    b = {str(i): float(value) for i, value in enumerate(hard)}
    difference, low, high = paired_difference(a, b)
    assert difference == pytest.approx(0.1)
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert paired_difference(b, a)[0] == pytest.approx(-0.1)


def test_evaluations_of_different_problems_are_not_compared():
    with pytest.raises(DataError, match="'q2'"):
        paired_difference({"q1": 1.0, "q2": 0.0}, {"q1": 1.0})
    with pytest.raises(DataError, match="without problems"):
        paired_difference({}, {})


def test_the_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    # confidences 0.9, 0.9, 0.9, 0.9 (one bin), three right: |0.75 - 0.9|
    assert calibration_error([0.9, 0.9, 0.1, 0.9], [1, 1, 0, 0]) == pytest.approx(0.15, abs=1e-12)
    # two bins: 0.6 right and wrong (|0.5 - 0.6|), 0.8 right twice (|1 - 0.8|): (0.1 * 2 + 0.2 * 2) / 4
    assert calibration_error([0.6, 0.4, 0.8, 0.2], [1, 1, 1, 0]) == pytest.approx(0.15, abs=1e-12)
    # one over- and one underconfident side in the same bin cancel, as the definition has it
    assert calibration_error([0.75, 0.75, 0.75, 0.75], [1, 1, 1, 0]) == pytest.approx(0.0, abs=1e-12)
    assert calibration_error([1.0, 0.0], [1, 0]) == 0.0
    assert calibration_error([1.0, 0.0], [0, 1]) == 1.0
    # undecided is half right, and says so
    assert calibration_error([0.5, 0.5], [1, 0]) == 0.0
    with pytest.raises(DataError, match="at least one"):
        calibration_error([], [])
