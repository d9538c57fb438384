"""The configuration of a GRPO stage. The source of each default is beside it.

[v1] and [v2] are the versions of the DeepSeek-R1 paper (arXiv 2501.12948). The paper's training step is one
policy update. Here a step is one rollout phase, with `mini_batches` x `inner_epochs` updates: the paper's
10,400 training steps with 16 mini-batches are `steps = 650`. Fields that count updates say so.
"""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from r1kit.config import Config
from r1kit.judges.config import JudgeRef
from r1kit.judges.judge import JUDGED_REWARDS
from r1kit.rewards.classifiers import ClassifierConfig
from r1kit.rewards.own import OnError
from r1kit.rewards.shaping import RewardOptions
from r1kit.training.policy_losses import ImportanceName, KlName, LossName
from r1kit.training.trainer import LoraConfig, OptimizerConfig
from r1kit.types import PromptStyle

Shares = dict[str, float]
ConstantGroups = Literal["accuracy", "reward"]


class MixturePoint(Config):
    """The problem sets' shares from step `from_step` on."""

    from_step: int = Field(ge=0)  # the first step that it holds for
    shares: Shares  # problem set -> share, relative to each other

    @field_validator("shares")
    @classmethod
    def _shares_are_positive(cls, shares: Shares) -> Shares:
        return check_shares(shares)


class RewardPoint(Config):
    """The rewards' weights from step `from_step` on; a reward that is not named is not computed."""

    from_step: int = Field(ge=0)  # the first step that it holds for
    weights: dict[str, float] = Field(min_length=1)  # reward -> weight


class LengthPoint(Config):
    """The limit on completion tokens from step `from_step` on."""

    from_step: int = Field(ge=0)  # the first step that it holds for
    value: int = Field(ge=1)  # tokens of a completion at most


class TemperaturePoint(Config):
    """The temperature for sampling and training from step `from_step` on."""

    from_step: int = Field(ge=0)  # the first step that it holds for
    value: float = Field(gt=0)  # of sampling and training


class GrpoConfig(Config):
    """A GRPO stage: the model, its problems, its rewards, and how to train."""

    kind: Literal["grpo"] = "grpo"
    model: str  # the initial policy: a stage, `base`, a folder or a hub name
    prompt_style: PromptStyle  # "zero": Table 1's template [v1 2.2.3]; "chat": the tokenizer's own

    # The problems to train on. Sets are named in the recipe's [problems]; shares are relative to each other.
    problems: Shares
    # Shares by step; `problems` before its first point [v2 3.2.2: general data in the last 400].
    mixture: list[MixturePoint] = Field(default_factory=list)
    problems_per_step: int = Field(512, ge=1)  # [v2 2.1] 8,192 outputs per rollout / 16 samples each
    group_size: int = Field(16, ge=1)  # [v2 2.1]
    steps: int = Field(ge=1)  # rollout phases; [v2 2.1] 10,400 updates / 16 mini-batches = 650

    # Reward -> weight; the total is the plain weighted sum [v2 2.2]. Weight 0: logged only.
    rewards: dict[str, float] = Field(min_length=1)
    # Weights by step; `rewards` before its first point [v2 3.2.2: preference rewards in the last 400].
    reward_schedule: list[RewardPoint] = Field(default_factory=list)
    # A program's accuracy: "all" is 1 if it passes all tests and else 0; "share" is the share that it passes
    # (which also pays for guessing the most frequent answer). Unpublished; APPS has both (2105.09938, 4).
    code_score: Literal["all", "share"] = "all"
    # The models behind rewards (helpful, safety): a stage of kind reward_model, or a folder or hub name of a
    # sequence-classification model; or a table with `model` and the label to use.
    reward_models: dict[str, str | ClassifierConfig] = Field(default_factory=dict)
    # Judges, by the reward they give: accuracy (problems of kind "judged"), helpful, safety.
    judges: dict[str, JudgeRef] = Field(default_factory=dict)
    # Rewards' parameters, for those that have any: `reward_options.overlong = { max_tokens = ..., ... }`.
    reward_options: RewardOptions = RewardOptions()  # a table of parameters for each reward that has any
    # "halt": an own reward that raises stops the run; "missing": its scores are missing, like those of a
    # judge that is down.
    on_reward_error: OnError = "halt"
    # The languages that may appear in the reasoning; None: any, with rare mistakes in short spans.
    languages: list[str] | None = None

    # Sampling.
    temperature: Annotated[float, Field(gt=0)] | list[TemperaturePoint] = (
        1.0  # [v2 2.1]; 0.7 in the last stage [v2 3.2.2]
    )
    max_new_tokens: Annotated[int, Field(ge=1)] | list[LengthPoint] = (
        32_768  # [v2 2.1], 65,536 after update 8,200
    )
    # "penalise": a completion cut off at the limit is trained with the reward it earned, which is the lowest:
    # no answer, no format (unpublished; the simplest choice). "mask": no loss on it (DAPO, 2503.14476, 3.4).
    truncated: Literal["penalise", "mask"] = "penalise"

    # Which groups are constant, and teach nothing. "accuracy": those whose samples are all right or all
    # wrong, whatever else differs (otherwise an all-correct group would pay for style alone); problems
    # without an accuracy use total reward. "reward": only groups whose totals are all equal.
    constant_groups: ConstantGroups = "accuracy"
    max_resample_waves: int = Field(
        1, ge=0
    )  # rounds of new problems to replace constant groups; TINYWORLD: 0-2 fill a step
    max_missing_frac: float = Field(0.1, ge=0, le=1)  # above it the judge itself must be down: halt

    # Advantages.
    advantage_scale: Literal["group", "batch", "none"] = "group"  # [v1 eq. 3]
    # One right of 16 has a std of 0.24, so 0.1 does not affect accuracy. It limits to tenfold how much tiny
    # differences in language consistency or a reward model's score are amplified.
    advantage_std_floor: float = Field(0.1, ge=0)

    # Updates.
    mini_batches: int = Field(16, ge=1)  # updates per inner epoch [v2 2.1]
    inner_epochs: int = Field(1, ge=1)  # passes over a step's rollouts [v2 2.1]
    # "grpo": [v1 eq. 1]. The others average or weight differently; see the table in `policy_losses`. Use
    # "dr_grpo" with advantage_scale = "none", "gspo" with clips of 3e-4 and 4e-4, and "cispo" with a clip_eps
    # of 1 or more (no lower bound).
    loss: LossName = "grpo"
    clip_eps: float = Field(10.0, gt=0)  # [v2 3.2.1]; TINYWORLD measured PPO's 0.2
    clip_eps_high: float | None = Field(
        None, gt=0
    )  # the upper clip, if it differs (DAPO: 0.28); None: clip_eps
    # Corrects for a sampler that differs slightly from the policy (other kernels or precision): truncated
    # importance sampling, per token or per row (`policy_losses`). The raw difference is always logged.
    importance_correction: ImportanceName = "none"  # not in the paper
    importance_cap: float = Field(2.0, gt=0)  # the largest weight; 2 in the method's source
    # After each load of weights, the sampler's logprobs of a probe may differ from the policy's by this on
    # average, in nats per token (`sync`); above it the stage halts. None: 1e-3 in float32, else 0.1. inf:
    # off.
    sync_tolerance: float | None = Field(None, gt=0)
    kl_coef: float = Field(0.001, ge=0)  # [v2 2.1]; 0 loads no reference
    kl_estimator: KlName = "k3"  # [v1 eq. 2]; "k2" and "k1" have the gradient of KL(policy || reference)
    reference_refresh_every: int = Field(400, ge=0)  # updates [v2 2.1], at the next step's start; 0: never
    # learning rate, schedule, clipping
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-6)  # [v2 2.1]
    # Train an adapter instead of all weights (docs/training.md); learning rates are then ten times as high.
    lora: LoraConfig | None = None
    gradient_checkpointing: bool = False  # a second forward pass for less memory; same gradients
    # fastest on a CPU (docs/performance.md); no effect on the gradient
    tokens_per_micro_batch: int = Field(4_000, ge=1)

    # Checkpoints and monitoring.
    checkpoint_every: int = Field(10, ge=1)  # steps; replaying a step repeats its updates, not its sampling
    sample_every: int = Field(5, ge=1)  # steps between two shown examples
    # A held-out problem set, to monitor accuracy while the reward rises [v2 B.5: reward up, code down].
    probe: str | None = None
    probe_size: int = Field(64, ge=1)  # one sample each: the standard error is 0.06 at most
    eval_every: int = Field(10, ge=1)  # steps between two probes

    @property
    def clip_high(self) -> float:
        """The upper clip: `clip_eps_high`, or `clip_eps` if that is None."""
        return self.clip_eps if self.clip_eps_high is None else self.clip_eps_high

    @property
    def num_updates(self) -> int:
        """The stage's number of policy updates, which the paper calls training steps."""
        return self.steps * self.mini_batches * self.inner_epochs

    def shares_at(self, step: int) -> Shares:
        """The problem sets' shares at a step."""
        points = [point for point in self.mixture if point.from_step <= step]
        return points[-1].shares if points else self.problems

    def weights_at(self, step: int) -> dict[str, float]:
        """The rewards' weights at a step."""
        points = [point for point in self.reward_schedule if point.from_step <= step]
        return points[-1].weights if points else self.rewards

    def max_new_tokens_at(self, step: int) -> int:
        """The longest completion allowed at a step."""
        if isinstance(self.max_new_tokens, int):
            return self.max_new_tokens
        return [point for point in self.max_new_tokens if point.from_step <= step][-1].value

    def temperature_at(self, step: int) -> float:
        """The temperature at a step, for sampling and for logprobs."""
        if isinstance(self.temperature, float):
            return self.temperature
        return [point for point in self.temperature if point.from_step <= step][-1].value

    @property
    def longest_completion(self) -> int:
        """The longest completion allowed at any step."""
        if isinstance(self.max_new_tokens, int):
            return self.max_new_tokens
        return max(point.value for point in self.max_new_tokens)

    def problem_sets(self) -> list[str]:
        """Every problem set that the stage trains on, sorted."""
        return sorted(
            {name for shares in (self.problems, *(p.shares for p in self.mixture)) for name in shares}
        )

    def reward_names(self) -> list[str]:
        """Every reward that the stage uses, sorted."""
        return sorted(
            {
                name
                for weights in (self.rewards, *(p.weights for p in self.reward_schedule))
                for name in weights
            }
        )

    @field_validator("problems")
    @classmethod
    def _shares_are_positive(cls, shares: Shares) -> Shares:
        return check_shares(shares)

    @field_validator("group_size")
    @classmethod
    def _a_group_compares(cls, group_size: int) -> int:
        if group_size < 2:
            raise ValueError("a group compares samples of one problem, so it needs at least 2")
        return group_size

    @model_validator(mode="after")
    def _schedules_are_sorted(self) -> Self:
        check_schedule("mixture", [point.from_step for point in self.mixture], has_base=True)
        check_schedule("reward_schedule", [point.from_step for point in self.reward_schedule], has_base=True)
        if not isinstance(self.max_new_tokens, int):
            check_schedule("max_new_tokens", [p.from_step for p in self.max_new_tokens], has_base=False)
        if not isinstance(self.temperature, float):
            check_schedule("temperature", [p.from_step for p in self.temperature], has_base=False)
        return self

    @model_validator(mode="after")
    def _options_have_rewards(self) -> Self:
        for name in self.reward_options.model_fields_set:
            if name not in self.reward_names():
                raise ValueError(
                    f"reward_options.{name} is set, but the reward {name!r} has no weight: give it one in "
                    f"`rewards`, or drop its options"
                )
        if "overlong" in self.reward_names() and self.reward_options.overlong is None:
            raise ValueError(
                "the reward 'overlong' needs its lengths: set reward_options.overlong to "
                "{ max_tokens = ..., cache_tokens = ... }"
            )
        return self

    @field_validator("lora")
    @classmethod
    def _ratios_are_no_noise(cls, lora: LoraConfig | None) -> LoraConfig | None:
        if lora is not None and lora.dropout:
            raise ValueError(
                f"dropout = {lora.dropout:g} would turn the ratio of new to old logprobs and the KL into "
                "noise: leave it at 0"
            )
        return lora

    @model_validator(mode="after")
    def _judges_have_rewards(self) -> Self:
        for name in self.judges:
            if name not in JUDGED_REWARDS:
                raise ValueError(
                    f"judges.{name}: a judge gives one of the rewards {', '.join(JUDGED_REWARDS)}; name one"
                )
            if name not in self.reward_names():
                raise ValueError(
                    f"judges.{name} is set, but the reward {name!r} has no weight: give it one in `rewards`, "
                    "or drop its judge"
                )
            if name in self.reward_models:
                raise ValueError(f"both judges.{name} and reward_models.{name} are set; drop one of them")
        return self

    @model_validator(mode="after")
    def _mini_batches_have_rows(self) -> Self:
        rows = self.problems_per_step * self.group_size
        if self.mini_batches > rows:
            raise ValueError(
                f"mini_batches = {self.mini_batches}, but a step has only {rows} rows "
                f"(problems_per_step x group_size): lower mini_batches, or raise one of them"
            )
        return self


def check_shares(shares: Shares) -> Shares:
    """The shares as given. Raises `ValueError` if there are none or one is not positive."""
    if not shares:
        raise ValueError("name at least one problem set and its share, such as { reasoning = 1.0 }")
    for name, share in shares.items():
        if not share > 0:
            raise ValueError(
                f"the share of {name!r} is {share}; shares are positive (leave out a set that is not used)"
            )
    return shares


def check_schedule(name: str, starts: list[int], *, has_base: bool) -> None:
    """Raise `ValueError` unless the points ascend, and start at step 0 or 1 if there is no base value."""
    for first, second in pairwise(starts):
        if second <= first:
            raise ValueError(
                f"{name}: from_step {second} comes after {first}; sort the points, at most one per step"
            )
    if not has_base and (not starts or starts[0] > 1):
        found = f"the first point is at step {starts[0]}" if starts else "it is empty"
        raise ValueError(f"{name}: {found}; the first from_step must be 0 or 1")
