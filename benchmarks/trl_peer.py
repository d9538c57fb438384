"""TRL's trainers as contestants, set up as well as they can be on a CPU.

Set against TRL's defaults: `use_cpu`, no gradient checkpointing (its default is on), float32 as ours (its
default is bfloat16; that is the "best precision" row, where it is faster), no logging, no saving, no
progress bars. Left at its defaults where these are the fast choice: fused AdamW, its fused head, old
logprobs not computed where they are not needed. A micro-batch has 16 rows (`--trl-rows`): 3,600 tokens with
completions of 128. A step is timed from its begin to its end callback, so that making the data loader,
which a `train()` of one step does again, is not counted.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import contest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    StoppingCriteriaList,
    TrainerCallback,
)
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from r1kit.ranks import collectives

COMMON: dict[str, Any] = {
    "use_cpu": True,
    "ddp_backend": "gloo" if collectives.world_size() > 1 else None,
    "gradient_checkpointing": False,
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "max_grad_norm": 1.0,
    "adam_beta2": 0.95,
    "seed": 0,
}


class _StepClock(TrainerCallback):
    """The seconds of every step."""

    def __init__(self, clock: contest.Clock) -> None:
        self._clock = clock
        self._start = 0.0
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._start = self._clock()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(self._clock() - self._start)


class TrlGrpo:
    """Whole GRPO steps: sampling with `generate`, rewards, reference, update."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[str],
        ends: Sequence[int],
        reward: Callable[[Sequence[int]], float],
        *,
        rows: int,
        bf16: bool,
        clock: contest.Clock,
    ) -> None:
        """`prompts` are distinct; `ends` has the lengths of all rows, group by group. `model` is copied."""
        self._clock = _StepClock(clock)
        folder = collectives.broadcast(tempfile.mkdtemp(prefix="r1kit-trl-"))  # one for all ranks
        model.save_pretrained(folder)  # the reference is loaded from where the policy came from
        collectives.barrier()
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        group_size = len(ends) // len(prompts)
        natural = len(set(ends)) > 1
        if natural:
            own = len(ends) // collectives.world_size()  # rows that this rank samples
            first = collectives.rank() * own
            # the end token that is filled in is one more
            _end_rows(model, [end - 1 for end in ends[first : first + own]])

        def rewards(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
            return [reward(ids) for ids in completion_ids]

        settings = GRPOConfig(
            output_dir=folder,
            max_steps=1,
            num_generations=group_size,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=max(1, len(ends) // rows // collectives.world_size()),
            max_completion_length=max(ends),
            temperature=1.0,
            beta=0.001,
            loss_type="grpo",
            learning_rate=1e-6,
            shuffle_dataset=False,
            generation_kwargs={"suppress_tokens": [contest.EOS_ID]},  # rows end where they are to end
            bf16=bf16,
            **COMMON,
        )
        self._trainer = GRPOTrainer(
            model,
            reward_funcs=rewards,
            args=settings,
            train_dataset=Dataset.from_dict({"prompt": list(prompts)}),
            processing_class=tokenizer,
            callbacks=[self._clock],
        )
        self._trainer.remove_callback(PrinterCallback)

    def step(self) -> float:
        """The seconds of one step."""
        self._trainer.train()
        return self._clock.seconds[-1]


def _end_rows(model: PreTrainedModel, ends: Sequence[int]) -> None:
    """Let `model.generate` end each row after its own number of tokens."""
    plain = model.generate

    def generate(*inputs: Any, **options: Any) -> Any:
        criteria = StoppingCriteriaList([contest.EndsByRow(ends)])
        return plain(*inputs, stopping_criteria=criteria, **options)

    model.generate = generate


class TrlSft:
    """SFT steps on packed rows."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[tuple[Sequence[int], Sequence[int]]],
        *,
        strategy: str,
        length: int,
        rows: int,
        accumulate: int,
        bf16: bool,
    ) -> None:
        """`examples` are prompts and responses; one pass over them is what `run` does."""
        self._clock = _StepClock(time.perf_counter)
        settings = SFTConfig(
            output_dir=tempfile.mkdtemp(prefix="r1kit-trl-"),
            num_train_epochs=1,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=accumulate,
            packing=True,
            packing_strategy=strategy,
            max_length=length,
            learning_rate=1e-6,
            bf16=bf16,
            **COMMON,
        )
        data = {
            "input_ids": [[*prompt, *response] for prompt, response in examples],
            "labels": [[-100] * len(prompt) + list(response) for prompt, response in examples],
        }
        self._trainer = SFTTrainer(
            model,
            args=settings,
            train_dataset=Dataset.from_dict(data),
            processing_class=tokenizer,
            callbacks=[self._clock],
        )
        self._trainer.remove_callback(PrinterCallback)

    def run(self) -> float:
        """The seconds of all steps of one pass over the examples."""
        done = len(self._clock.seconds)
        self._trainer.train()
        return sum(self._clock.seconds[done:])
