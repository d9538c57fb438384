"""The problems of a step: endless shuffled streams, mixed by shares.

Problem n of a set is a pure function of (seed, set, n), and a step's mixture is one of (seed, step, shares).
The only state is each set's position, which checkpoints and step logs store.
"""

import random
from collections.abc import Mapping, Sequence

from r1kit.errors import DataError
from r1kit.seeds import derive_seed
from r1kit.types import Problem


class ProblemStream:
    """Named problem sets, each read in a new random order every epoch; `positions` are the next indices."""

    def __init__(self, sets: Mapping[str, Sequence[Problem]], *, seed: int) -> None:
        for name, problems in sets.items():
            if not problems:
                raise DataError(f"problem set {name!r} is empty; there is nothing to train on")
        self._sets = dict(sets)
        self._seed = seed
        self._orders: dict[tuple[str, int], list[int]] = {}
        self.positions: dict[str, int] = dict.fromkeys(sets, 0)

    def problem(self, name: str, position: int) -> Problem:
        """The problem at this position of a set's endless stream."""
        problems = self._sets[name]
        epoch, index = divmod(position, len(problems))
        if (name, epoch) not in self._orders:
            # keep two epochs' orders, because a step may span the end of one and the start of the next
            self._orders = {
                key: order for key, order in self._orders.items() if key[0] != name or key[1] >= epoch - 1
            }
            order = list(range(len(problems)))
            random.Random(derive_seed(self._seed, "problem order", name, epoch)).shuffle(order)
            self._orders[name, epoch] = order
        return problems[self._orders[name, epoch][index]]

    def take(self, names: Sequence[str]) -> list[Problem]:
        """The next problem of each named set, in order; a set named twice gives its next two problems."""
        taken: list[Problem] = []
        for name in names:
            taken.append(self.problem(name, self.positions[name]))
            self.positions[name] += 1
        return taken

    def skip(self, names: Sequence[str]) -> None:
        """Advance as `take` does, for a step that is replayed from its log."""
        for name in names:
            self.positions[name] += 1


def mix(shares: Mapping[str, float], num_problems: int, *, seed: int) -> list[str]:
    """The set of each of a step's problems, by systematic sampling of the shares.

    Each set gets its share of `num_problems`, rounded down or up; the average over seeds is exact.
    """
    names = sorted(shares)
    total = sum(shares.values())
    offset = random.Random(seed).random()
    chosen: list[str] = []
    index, reached = 0, shares[names[0]] / total
    for i in range(num_problems):
        # one random offset, then equal steps through the cumulative shares
        point = (i + offset) / num_problems
        while point >= reached and index < len(names) - 1:
            index += 1
            reached += shares[names[index]] / total
        chosen.append(names[index])
    return chosen
