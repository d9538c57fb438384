"""The labelled pairs of `math_pairs.txt`: ground truth, text that answers, and whether it is right.

The file's head says how it is written and what counts as right.
"""

from dataclasses import dataclass
from pathlib import Path

PAIRS_PATH = Path(__file__).with_name("math_pairs.txt")


@dataclass(frozen=True)
class MathPair:
    """A summary and whether it gives `truth` as its answer; `line` is its place in the file."""

    line: int
    kind: str
    truth: str
    text: str
    is_right: bool


def math_pairs(path: Path = PAIRS_PATH) -> list[MathPair]:
    """Every pair, in the file's order."""
    pairs: list[MathPair] = []
    kind = truth = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark, _, text = line.partition(" ")
        if line.startswith("["):
            kind = line.strip("[]")
        elif mark == "=":
            truth = text
        elif mark in ("+", "-"):
            pairs.append(MathPair(number, kind, truth, text.replace("¶", "\n"), mark == "+"))
        elif line and mark != "#":
            raise ValueError(f"{path}:{number}: neither a kind, a truth nor a pair: {line!r}")
    return pairs


HELD_OUT_PATH = Path(__file__).with_name("math_pairs_held_out.txt")


@dataclass(frozen=True)
class Agreement:
    """Verdicts beside labels: what was taken wrongly, and what was missed."""

    num_pairs: int
    num_right: int
    false_positives: list[MathPair]
    false_negatives: list[MathPair]

    @property
    def recall(self) -> float:
        """Of the right answers, the share that was taken."""
        return 1 - len(self.false_negatives) / self.num_right

    @property
    def precision(self) -> float:
        """Of the answers that were taken, the share that is right."""
        taken = self.num_right - len(self.false_negatives)
        return taken / (taken + len(self.false_positives))


def agreement(pairs: list[MathPair], verdicts: list[bool]) -> Agreement:
    """The verdicts on the pairs, in order, counted against the labels."""
    both = list(zip(pairs, verdicts, strict=True))
    return Agreement(
        num_pairs=len(pairs),
        num_right=sum(pair.is_right for pair in pairs),
        false_positives=[pair for pair, verdict in both if verdict and not pair.is_right],
        false_negatives=[pair for pair, verdict in both if pair.is_right and not verdict],
    )
