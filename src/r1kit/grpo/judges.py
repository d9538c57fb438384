"""A GRPO stage's judges: opened on every rank, asked about that rank's samples, and counted."""

from collections import Counter
from collections.abc import Mapping, Sequence

from r1kit.grpo.config import GrpoConfig
from r1kit.judges.judge import JudgeReward
from r1kit.judges.opening import COUNTS, open_judge
from r1kit.stage import StageContext


def open_judges(context: StageContext, config: GrpoConfig) -> dict[str, JudgeReward]:
    """The judges, by the rewards that they give. If several ranks need the same reply, only one asks."""
    return {
        name: JudgeReward(open_judge(judge, context, every_rank=True), config.prompt_style, name)
        for name, judge in config.judges.items()
    }


def judge_counts(judges: Mapping[str, JudgeReward]) -> Counter[str]:
    """This rank's judge requests so far, by metric: `judge/helpful/asked`, `judge/helpful/cached`."""
    return Counter(
        {
            f"judge/{name}/{what}": count
            for name, judge in judges.items()
            for what, count in judge.counts.items()
        }
    )


def judge_totals(rows: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """Totals over a stage's judges and steps, from its metrics rows: `judge/asked` and so on."""
    totals: Counter[str] = Counter()
    for row in rows:
        for name, count in row.items():
            if name.startswith("judge/"):
                totals[f"judge/{name.rpartition('/')[2]}"] += int(count)
    return {name: totals[name] for name in (f"judge/{what}" for what in COUNTS) if totals}
