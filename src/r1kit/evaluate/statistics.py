"""Statistics from k samples per problem: pass@k, majority votes and bootstrap intervals, all over problems.

The bootstrap resamples problems, not samples. The k samples of one problem are not independent; treating them
as independent makes confidence intervals too narrow, by up to a factor of sqrt(k).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import comb, sqrt

import numpy as np
from numpy.typing import NDArray

from r1kit.errors import DataError

CONFIDENCE = 0.95
# rows of resampled indices in memory at a time: 400 problems x 1,000 rows are 3 MB
_CHUNK = 1000


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """The unbiased probability that one of k samples is right: 1 - C(n-c, k) / C(n, k) (arXiv 2107.03374)."""
    assert 0 <= num_correct <= num_samples
    assert 1 <= k <= num_samples
    return 1.0 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def is_fall(before: float, after: float, num: int) -> bool:
    """Whether a fraction of `num` answers fell by more than three standard errors of the difference.

    Three, because `before` is chosen as the best of several. A mean outside of [0, 1] is clipped to it.
    """
    # two samples of the same size: Var(difference) = 2 p (1 - p) / num, with the pooled p
    pooled = min(1.0, max(0.0, (before + after) / 2))
    return before - after > 3.0 * sqrt(2 * pooled * (1 - pooled) / num)


def find_fall(shares: Sequence[float], num: int) -> tuple[int, float, float] | None:
    """Whether fractions of `num` answers each, over time, end below their best: (index, best, last) or None.

    From four values on, means of two neighbours are compared: of series of twenty values that are only noise,
    one in twenty is taken for a fall, while a fall by 0.15 with 64 answers is found in 49 of 50.
    """
    if len(shares) < 4:
        values, num_each, earlier = list(shares), num, len(shares) - 1
    else:
        values = [(first + second) / 2 for first, second in pairwise(shares)]
        num_each, earlier = 2 * num, len(values) - 2  # the second to last mean shares a value with the last
    if earlier < 1:
        return None
    best = max(range(earlier), key=lambda i: values[i])
    return (best, values[best], values[-1]) if is_fall(values[best], values[-1], num_each) else None


def majority_score(votes: Sequence[tuple[str | None, bool]]) -> float:
    """Whether the most common answer is right (cons@k). `votes`: (normalised answer or None, correct).

    A sample without an answer has no vote; with no votes at all the score is 0. A tie is broken at random in
    expectation: the score is the mean over the tied answers, so that it does not depend on the order.
    """
    ballots: dict[str, list[bool]] = {}
    for answer, correct in votes:
        if answer is not None:
            ballots.setdefault(answer, []).append(correct)
    if not ballots:
        return 0.0
    most = max(len(ballot) for ballot in ballots.values())
    # the mean, in case equal answers got different verdicts
    winners = [sum(ballot) / len(ballot) for ballot in ballots.values() if len(ballot) == most]
    return sum(winners) / len(winners)


def bootstrap_interval(scores: Sequence[float], *, num_bootstrap: int, seed: int) -> tuple[float, float]:
    """The 95% percentile interval of the mean of one score per problem, resampling problems."""
    assert len(scores) > 0
    means = _bootstrap_means(np.asarray(scores, dtype=np.float64), num_bootstrap, seed)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def paired_difference(
    a_scores: Mapping[str, float],
    b_scores: Mapping[str, float],
    *,
    num_bootstrap: int = 10_000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean of a minus mean of b on the same problems, with its 95% interval: (difference, low, high).

    Both models' scores of a problem are resampled together, so that the problem's difficulty cancels. Raises
    `DataError` if the two were not evaluated on the same problems.
    """
    if a_scores.keys() != b_scores.keys():
        alone = sorted(a_scores.keys() ^ b_scores.keys())
        raise DataError(
            f"can't compare two evaluations over different problems: {len(alone)} are in one only "
            f"(such as {alone[0]!r}); evaluate both on the same problem sets"
        )
    if not a_scores:
        raise DataError(
            "can't compare two evaluations without problems; evaluate on at least one problem set"
        )
    differences = [a_scores[key] - b_scores[key] for key in sorted(a_scores)]
    low, high = bootstrap_interval(differences, num_bootstrap=num_bootstrap, seed=seed)
    return float(np.mean(differences)), low, high


def _bootstrap_means(values: NDArray[np.float64], num_bootstrap: int, seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    means = []
    for start in range(0, num_bootstrap, _CHUNK):
        rows = min(_CHUNK, num_bootstrap - start)
        drawn = generator.integers(0, len(values), size=(rows, len(values)))
        means.append(values[drawn].mean(axis=1))
    return np.concatenate(means)


def calibration_error(
    probabilities: Sequence[float], outcomes: Sequence[float], *, num_bins: int = 10
) -> float:
    """Expected calibration error (Guo et al., arXiv 1706.04599, eq. 3), on the likelier outcome.
    `probabilities` are those of outcome 1. The confidence max(p, 1 - p) is binned into equal widths over
    [0, 1]; the error is the mean over predictions of their bin's |accuracy - mean confidence|. At p = 0.5
    either outcome counts half.
    """
    if not len(probabilities) == len(outcomes) > 0:
        raise DataError("a calibration error needs as many outcomes as probabilities, and at least one")
    p = np.asarray(probabilities, dtype=np.float64)
    # no prediction is below 0.5, so only the upper half of the bins is ever filled
    happened = np.asarray(outcomes, dtype=np.float64) > 0.5
    confidence = np.maximum(p, 1 - p)
    right = np.where(p == 0.5, 0.5, ((p > 0.5) == happened).astype(np.float64))
    # a bin's gap times its size is the sum of (accuracy - confidence) over its members
    bins = np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)
    gaps = [abs(float((right - confidence)[bins == number].sum())) for number in range(num_bins)]
    return sum(gaps) / len(p)
