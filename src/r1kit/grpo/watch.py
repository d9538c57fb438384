"""A step in numbers, and alarms: what a person should look at while a policy is trained.

The numbers of rewards and lengths are those of the first wave, before anything is dropped: later waves hold
only problems that took the place of others. An alarm is raised when it begins to hold, and not again until it
has ceased to.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from r1kit.grpo.config import GrpoConfig
from r1kit.grpo.groups import Fate, Group, fate

# Entropy falls as a policy gets surer; below a tenth of its start samples of a group hardly differ.
_COLLAPSED_ENTROPY_FRAC = 0.1
# A quarter cut off: the limit, not the policy, begins to shape what is learned.
_MANY_TRUNCATED_FRAC = 0.25
# log(1.5): a sampled token's probability is half again what the trainer takes it for. In float32 it is 1e-4.
_LARGE_LOGRATIO = 0.4
# One answer in a hundred that can't be compared: the verifier's limits begin to be a reward of their own.
_MANY_FAULTS_FRAC = 0.01
# two standard errors of the difference between two probes
_SURE = 2.0


def rollout_metrics(groups: Sequence[Group], config: GrpoConfig) -> dict[str, float]:
    """Rewards, lengths and fates of a step's groups."""
    first_wave = [group for group in groups if group.wave == 0]
    rows = [pair for group in first_wave for pair in zip(group.rollouts, group.breakdowns, strict=True)]
    everything = [breakdown.total for group in groups for breakdown in group.breakdowns]
    lengths = [len(rollout.completion.token_ids) for rollout, _ in rows]
    totals = [b.total for _, b in rows if b.total is not None]
    row = {
        **_mean("reward/mean", totals),
        "completion/tokens": float(sum(len(r.completion.token_ids) for g in groups for r in g.rollouts)),
        **_mean("completion/length_mean", lengths),
        "completion/length_max": float(max(lengths)),
        **_mean("completion/truncated_frac", [r.completion.finish_reason == "length" for r, _ in rows]),
        **_mean("reward/missing_frac", [total is None for total in everything]),
    }
    names = dict.fromkeys(name for _, breakdown in rows for name in breakdown.parts)
    for name in names:
        row |= _mean(f"reward/{name}", [v for _, b in rows if (v := b.parts.get(name)) is not None])
    for label, is_right in (("right", True), ("wrong", False)):
        of_these = [
            n
            for n, (_, b) in zip(lengths, rows, strict=True)
            if (v := b.parts.get("accuracy")) is not None and (v >= 1.0) is is_right
        ]
        row |= _mean(f"completion/length_{label}", of_these)
    return row | _fate_metrics(groups, config)


def _fate_metrics(groups: Sequence[Group], config: GrpoConfig) -> dict[str, float]:
    first = Counter(fate(group, config) for group in groups if group.wave == 0)
    num_first = sum(first.values())
    constant = first[Fate.ALL_RIGHT] + first[Fate.ALL_WRONG] + first[Fate.SAME_REWARD]
    return {
        "groups/constant_frac": constant / num_first,
        "groups/all_right_frac": first[Fate.ALL_RIGHT] / num_first,
        "groups/all_wrong_frac": first[Fate.ALL_WRONG] / num_first,
        "groups/sampled": float(len(groups)),
        "groups/resampled": float(len(groups) - num_first),
        "groups/trained": float(sum(fate(group, config) is Fate.USEFUL for group in groups)),
    }


def _mean(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: sum(values) / len(values)} if values else {}


class Watch:
    """Reads the rows of a stage as they come, and says what is wrong with them."""

    def __init__(self, config: GrpoConfig) -> None:
        self._config = config
        self._rows: list[Mapping[str, float]] = []
        self._ringing: set[str] = set()

    def alarms(self, row: Mapping[str, float], groups: Sequence[Group] = ()) -> list[str]:
        """What begins to be wrong with this row. `groups` are its step's, to explain an empty step."""
        self._rows.append(row)
        found = {
            "empty": self._nothing_to_learn(row, groups),
            "hacking": self._reward_hacking(),
            "entropy": self._entropy_collapse(row),
            "truncated": self._truncation(row),
            "logratio": self._mismatch(row),
            "verifier": self._verifier_faults(row),
        }
        fresh = [text for name, text in found.items() if text is not None and name not in self._ringing]
        self._ringing = {name for name, text in found.items() if text is not None}
        return fresh

    def _nothing_to_learn(self, row: Mapping[str, float], groups: Sequence[Group]) -> str | None:
        if row.get("groups/trained", 1.0) > 0:
            return None
        fates = Counter(fate(group, self._config).value for group in groups)
        counts = ", ".join(f"{count} {name}" for name, count in fates.most_common())
        return (
            f"no group of this step had anything to learn from ({counts}): samples of one problem that earn "
            "the same express no preference. What teaches is problems that are solved sometimes: easier ones "
            "where all are wrong, harder ones where all are right; or a larger group_size."
        )

    def _reward_hacking(self) -> str | None:
        probes = [row for row in self._rows if "eval/held_out_accuracy" in row and "reward/mean" in row]
        if len(probes) < 2:
            return None
        best, last = max(probes[:-1], key=lambda row: row["eval/held_out_accuracy"]), probes[-1]
        before, now = best["eval/held_out_accuracy"], last["eval/held_out_accuracy"]
        pooled = (before + now) / 2
        error = math.sqrt(2 * pooled * (1 - pooled) / self._config.probe_size)
        if before - now <= _SURE * error or last["reward/mean"] <= best["reward/mean"]:
            return None
        return (
            f"reward rises ({best['reward/mean']:.3f} to {last['reward/mean']:.3f}) while held-out accuracy "
            f"falls ({before:.2f} to {now:.2f} on {self._config.probe!r}). The policy may be exploiting a "
            "reward: read its samples, stop earlier, or lower that reward's weight."
        )

    def _entropy_collapse(self, row: Mapping[str, float]) -> str | None:
        first = next((r["policy/entropy"] for r in self._rows if "policy/entropy" in r), 0.0)
        if row.get("policy/entropy", first) >= _COLLAPSED_ENTROPY_FRAC * first:
            return None
        return (
            f"entropy has collapsed, from {first:.3f} to {row['policy/entropy']:.4f} nats a token: samples "
            "hardly differ any more. Raise kl_coef or temperature, or lower the learning rate."
        )

    def _truncation(self, row: Mapping[str, float]) -> str | None:
        if row.get("completion/truncated_frac", 0.0) <= _MANY_TRUNCATED_FRAC:
            return None
        return (
            f"{row['completion/truncated_frac']:.0%} of the completions were cut off at max_new_tokens "
            f"(truncated = {self._config.truncated!r}); raise it if they are not rambling."
        )

    def _mismatch(self, row: Mapping[str, float]) -> str | None:
        if row.get("sampler/logratio_max", 0.0) <= _LARGE_LOGRATIO:
            return None
        return (
            f"sampler and trainer disagree: log-probabilities of sampled tokens differ by up to "
            f"{row['sampler/logratio_max']:.2f}. Sample in the precision that is trained in."
        )

    def _verifier_faults(self, row: Mapping[str, float]) -> str | None:
        timeouts, crashes = row.get("verifier/timeouts", 0.0), row.get("verifier/crashes", 0.0)
        num_completions = row.get("groups/sampled", 0.0) * self._config.group_size
        if timeouts + crashes <= _MANY_FAULTS_FRAC * num_completions:
            return None
        return (
            f"the math verifier ran out of time on {timeouts:.0f} and crashed on {crashes:.0f} of "
            f"{num_completions:.0f} answers, which are scored 0: read them in the step's rollouts. Either "
            "the policy writes what can't be compared, or the machine is too busy for the time limit."
        )
