"""The alarms that may ring while a policy trains: what each is about, and what to do about it.

`grpo.watch` raises them; the report and the pages in a browser show them from the metrics (`alarm/<name>`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

PREFIX = "alarm/"


@dataclass(frozen=True, slots=True)
class Alarm:
    """A kind of alarm. `worst` picks the worst of its metric's values; `advice` is one or two sentences."""

    label: str
    metric: str
    worst: Callable[[Iterable[float]], float]
    advice: str


ALARMS = {
    "entropy": Alarm(
        "entropy collapse",
        "policy/entropy",
        min,
        "Raise kl_coef or temperature, or lower the learning rate.",
    ),
    "length": Alarm(
        "length drift",
        "completion/length_mean",
        max,
        "Read the step's longest and shortest samples for rambling, repetition or guessing; a token-mean "
        "loss (dapo, dr_grpo) does not favor long wrong answers.",
    ),
    "kl": Alarm(
        "KL blow-up",
        "kl/ref",
        max,
        "Lower the learning rate or clip_eps, raise kl_coef, or refresh the reference more often.",
    ),
    "truncated": Alarm(
        "completions cut off",
        "completion/truncated_frac",
        max,
        "Read some that were cut off; raise max_new_tokens if they are not rambling.",
    ),
    "mismatch": Alarm(
        "sampler and trainer disagree",
        "sampler/logratio_max",
        max,
        "Sample in the precision of training, or set importance_correction.",
    ),
    "empty": Alarm(
        "steps with nothing to learn from",
        "groups/trained",
        min,
        "Use problems that are solved sometimes: easier ones if all are wrong, harder ones if all are right; "
        "or a larger group_size.",
    ),
    "hacking": Alarm(
        "reward up, held-out accuracy down",
        "eval/held_out_accuracy",
        min,
        "The policy may be exploiting a reward: read its samples, stop earlier, or lower that reward's "
        "weight.",
    ),
    "verifier": Alarm(
        "math verifier at its limits",
        "verifier/timeouts",
        max,
        "Read these answers in the step's rollouts: either the policy writes answers that can't be compared, "
        "or the machine is too busy for the time limit.",
    ),
}
