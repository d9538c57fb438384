"""A step's metrics, and alarms for what a person should look at while a policy trains.

Rewards and lengths are those of the first wave, before anything is dropped: later waves have only replacement
problems. An alarm is reported when it starts, and not again until it has stopped; while it lasts, the metrics
have `alarm/<name>`. Steps are compared only within one point of the schedules, because other problems,
rewards or limits change the numbers.
"""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from r1kit.evaluate.statistics import find_fall, is_fall
from r1kit.grpo.config import GrpoConfig
from r1kit.grpo.groups import Fate, Group
from r1kit.training.alarms import ALARMS

# Entropy falls as a policy becomes more certain; below a tenth of its start, a group's samples hardly differ.
_COLLAPSED_ENTROPY_FRAC = 0.1
# With a quarter truncated, the limit begins to shape what is learned.
_MANY_TRUNCATED_FRAC = 0.25
# log(1.5): sampler and trainer differ on a token's probability by a factor of 1.5. In float32 it is 1e-4.
_LARGE_LOGRATIO = 0.4
# In half precision single tokens differ by more without harm, so the mean over tokens decides. bfloat16
# rounding alone makes it about 0.01.
_LARGE_MEAN_LOGRATIO = 0.05
# KL to the reference, in nats per token. Healthy runs stay below 1. A jump to ten times the usual value means
# that the policy left the reference's neighborhood within a step, unless the value is still tiny.
_LARGE_KL = 3.0
_KL_JUMP, _KL_JUMP_FROM = 10.0, 0.1
_KL_ROWS = 20  # whose median is the usual value
# The number of steps in a mean, and the factor that makes a change of length a drift.
_LENGTH_WINDOW = 5
_LENGTH_FACTOR = 2.0
# With one answer in a hundred that can't be compared, the verifier's limits begin to act as a reward.
_MANY_FAULTS_FRAC = 0.01


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Metrics of a step's groups: rewards, lengths and fates."""
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
    return row | _fate_metrics(groups)


def _fate_metrics(groups: Sequence[Group]) -> dict[str, float]:
    first = Counter(group.fate for group in groups if group.wave == 0)
    num_first = sum(first.values())
    every = Counter(group.fate for group in groups)
    dropped = [kind for kind in every if kind is not Fate.USEFUL]
    constant = first[Fate.ALL_RIGHT] + first[Fate.ALL_WRONG] + first[Fate.SAME_REWARD]
    return {
        "groups/constant_frac": constant / num_first,
        "groups/all_right_frac": first[Fate.ALL_RIGHT] / num_first,
        "groups/all_wrong_frac": first[Fate.ALL_WRONG] / num_first,
        "groups/sampled": float(len(groups)),
        "groups/resampled": float(len(groups) - num_first),
        "groups/trained": float(every[Fate.USEFUL]),
        **{f"groups/dropped_{kind.name.lower()}": float(every[kind]) for kind in Fate if kind in dropped},
    }


def _mean(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: sum(values) / len(values)} if values else {}


class Watch:
    """Checks a stage's metrics rows as they come.

    A row has its `step`. `dtype` is the precision of training.
    """

    def __init__(self, config: GrpoConfig, *, dtype: str = "float32") -> None:
        self._config = config
        self._dtype = dtype
        self._rows: list[Mapping[str, float]] = []  # since the schedules last changed
        self._in_force: object = None
        self._first_entropy = 0.0
        self.ringing: list[str] = []
        """The alarms that are on at the last row."""

    def alarms(self, row: Mapping[str, float], groups: Sequence[Group] = ()) -> list[str]:
        """The texts of alarms that start at this row. `groups` are its step's, to explain an empty step."""
        self._take(row)
        found = {
            "empty": self._nothing_to_learn(row, groups),
            "hacking": self._reward_hacking(),
            "entropy": self._entropy_collapse(row),
            "length": self._length_drift(),
            "kl": self._kl_blow_up(row),
            "truncated": self._truncation(row),
            "mismatch": self._mismatch(row),
            "verifier": self._verifier_faults(row),
        }
        holding = {name: text for name, text in found.items() if text is not None}
        fresh = [text for name, text in holding.items() if name not in self.ringing]
        self.ringing = list(holding)
        return fresh

    def _take(self, row: Mapping[str, float]) -> None:
        config, step = self._config, int(row.get("step", len(self._rows)))
        in_force = (config.weights_at(step), config.shares_at(step), config.max_new_tokens_at(max(step, 1)))
        if in_force != self._in_force:
            self._in_force = in_force
            # the probe before the first step has the same settings as step 1
            self._rows = [r for r in self._rows if r.get("step") == 0 and step == 1]
        self._rows.append(row)
        self._first_entropy = self._first_entropy or row.get("policy/entropy", 0.0)

    def _nothing_to_learn(self, row: Mapping[str, float], groups: Sequence[Group]) -> str | None:
        if row.get("groups/trained", 1.0) > 0:
            return None
        fates = Counter(group.fate.value for group in groups)
        counts = ", ".join(f"{count} {name}" for name, count in fates.most_common())
        return (
            f"no group of this step had anything to learn from ({counts}): samples of one problem with equal "
            f"rewards express no preference. {ALARMS['empty'].advice}"
        )

    def _reward_hacking(self) -> str | None:
        probes = _probes(self._rows)
        fall = find_fall([accuracy for _, accuracy in probes], self._config.probe_size)
        if fall is None:
            return None
        place, best, accuracy = fall
        best_reward, reward = probes[place][0], probes[-1][0]
        if reward <= best_reward:
            return None
        return (
            f"reward rises ({best_reward:.3f} to {reward:.3f}) while held-out accuracy "
            f"falls ({best:.2f} to {accuracy:.2f} on {self._config.probe!r}). {ALARMS['hacking'].advice}"
        )

    def _entropy_collapse(self, row: Mapping[str, float]) -> str | None:
        first = self._first_entropy
        if row.get("policy/entropy", first) >= _COLLAPSED_ENTROPY_FRAC * first:
            return None
        return (
            f"entropy has collapsed, from {first:.3f} to {row['policy/entropy']:.4f} nats per token: samples "
            f"hardly differ any more. {ALARMS['entropy'].advice}"
        )

    def _length_drift(self) -> str | None:
        """Completions grew longer without higher accuracy, or shorter with lower accuracy."""
        name = "reward/accuracy" if any("reward/accuracy" in row for row in self._rows) else "reward/mean"
        rows = [row for row in self._rows if "completion/length_mean" in row and name in row]
        windows = [rows[end - _LENGTH_WINDOW : end] for end in range(_LENGTH_WINDOW, len(rows) + 1)]
        means = [(_mean_of(w, "completion/length_mean"), _mean_of(w, name)) for w in windows]
        if len(means) <= _LENGTH_WINDOW:
            return None
        length, right = means[-1]
        num_prompts = _LENGTH_WINDOW * self._config.problems_per_step
        for then, right_then in means[:-_LENGTH_WINDOW]:  # windows that do not overlap the last one
            if length >= _LENGTH_FACTOR * then and right <= right_then:
                return (
                    f"completions drift longer, from {then:.0f} to {length:.0f} tokens, and earn no more for "
                    f"it ({name} {right_then:.3f} then, {right:.3f} now). Check the long ones for rambling "
                    "or repetition; a token-mean loss (dapo, dr_grpo) does not favor long wrong answers."
                )
            if then >= _LENGTH_FACTOR * length and is_fall(right_then, right, num_prompts):
                return (
                    f"completions drift shorter, from {then:.0f} to {length:.0f} tokens, and earn less "
                    f"({name} {right_then:.3f} then, {right:.3f} now): guesses replace reasoning. "
                    "A token-mean loss (dapo, dr_grpo) or a lower learning rate may help."
                )
        return None

    def _kl_blow_up(self, row: Mapping[str, float]) -> str | None:
        now = row.get("kl/ref", 0.0)
        before = [r["kl/ref"] for r in self._rows[:-1] if "kl/ref" in r][-_KL_ROWS:]
        usual = statistics.median(before) if len(before) >= _LENGTH_WINDOW else math.inf
        if now <= _LARGE_KL and (now <= _KL_JUMP_FROM or now <= _KL_JUMP * usual):
            return None
        since = f", where {usual:.3f} was usual" if usual < math.inf else ""
        return (
            f"KL to the reference is {now:.3f} nats per token{since}: the policy has moved far from it. "
            f"{ALARMS['kl'].advice}"
        )

    def _truncation(self, row: Mapping[str, float]) -> str | None:
        if row.get("completion/truncated_frac", 0.0) <= _MANY_TRUNCATED_FRAC:
            return None
        return (
            f"{row['completion/truncated_frac']:.0%} of the completions were cut off at max_new_tokens "
            f"(truncated = {self._config.truncated!r}). {ALARMS['truncated'].advice}"
        )

    def _mismatch(self, row: Mapping[str, float]) -> str | None:
        mean, largest = row.get("sampler/logratio_mean", 0.0), row.get("sampler/logratio_max", 0.0)
        is_large = self._dtype == "float32" and largest > _LARGE_LOGRATIO
        if mean <= _LARGE_MEAN_LOGRATIO and not is_large:
            return None
        return (
            f"sampler and trainer disagree: log-probabilities of sampled tokens differ by {mean:.3f} on "
            f"average, and by up to {largest:.2f}. {ALARMS['mismatch'].advice}"
        )

    def _verifier_faults(self, row: Mapping[str, float]) -> str | None:
        timeouts, crashes = row.get("verifier/timeouts", 0.0), row.get("verifier/crashes", 0.0)
        num_completions = row.get("groups/sampled", 0.0) * self._config.group_size
        if timeouts + crashes <= _MANY_FAULTS_FRAC * num_completions:
            return None
        return (
            f"the math verifier ran out of time on {timeouts:.0f} and crashed on {crashes:.0f} of "
            f"{num_completions:.0f} answers, which are scored 0. {ALARMS['verifier'].advice}"
        )


def _probes(rows: Sequence[Mapping[str, float]]) -> list[tuple[float, float]]:
    """For each probe, the mean reward of the steps since the previous probe, and the held-out accuracy.

    The probe before the first step gets the first step's reward, which has the same weights.
    """
    found: list[tuple[float, float]] = []
    rewards: list[float] = []
    start: float | None = None
    for row in rows:
        if "reward/mean" in row:
            rewards.append(row["reward/mean"])
        if start is not None and rewards:
            found.append((rewards[0], start))
            start = None
        if "eval/held_out_accuracy" not in row:
            continue
        if rewards:
            found.append((sum(rewards) / len(rewards), row["eval/held_out_accuracy"]))
            rewards = []
        else:
            start = row["eval/held_out_accuracy"]
    return found


def _mean_of(rows: Sequence[Mapping[str, float]], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)
