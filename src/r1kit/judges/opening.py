"""Opens a stage's judges: behind a server, or a model sampled in this process; with reply cache and ledger.

All stages of a run keep judges' replies in one folder, so that nothing is judged twice, whatever is run
again. A model in this process is loaded at the first request that is not in the cache. In a data stage or an
evaluation, the first rank asks and the others help to sample. In a training stage, every rank asks its share,
and waits if another one is already asking the same. Not covered: votes of several judges on one question.
"""

import hashlib
import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from r1kit.errors import ModelError, StageHalted
from r1kit.judges.chat_client import ChatClient, ChatReply, ChatRequest, OnReply, WhenSpent
from r1kit.judges.config import JudgeConfig
from r1kit.judges.judge import ModelJudge
from r1kit.judges.ledger import BudgetSpent, Ledger
from r1kit.judges.replies import ChatModel, open_cache
from r1kit.model.loading import context_length_of, load_tokenizer, stop_token_ids, weights_stamp
from r1kit.ranks import collectives
from r1kit.sampling.engine import RolloutEngine, SampleRequest, SamplingParams, iter_samples
from r1kit.sampling.over_ranks import EngineSpec, iter_shared
from r1kit.stage import StageContext
from r1kit.text.turns import render

REPLIES_NAME = "judge_replies"
"""The folder of judges' replies, in a run's folder (or in a stage's, if it runs alone)."""


def open_judge(config: JudgeConfig, context: StageContext, *, every_rank: bool = False) -> ModelJudge:
    """The judge, ready to use; close it after use.

    `every_rank`: all ranks ask at the same time; else only the first one asks.
    """
    folder = (context.replies_dir or context.work_dir / REPLIES_NAME).absolute()
    replies = open_cache(folder, collectives.rank())
    ledger = config.ledger(folder / account_name(config.model))
    model: ChatModel
    if config.is_local:
        path = context.model_path(config.model)
        spec = EngineSpec(path, context.dtype, context.device, context.max_rows)
        # a stage's model may be trained again under the same name, so its weights are part of the cache key
        name = json.dumps([config.model, weights_stamp(path), context.dtype])
        model = EngineChat(spec, ledger, when_spent=config.when_spent, shared=not every_rank)
    else:
        name = config.model
        model = ChatClient(
            config.server(num_ranks=collectives.world_size() if every_rank else 1),
            ledger=ledger,
            when_spent=config.when_spent,
            structured=config.structured == "auto",
        )
    return ModelJudge(model, replies, name=name, temperature=config.temperature, max_tokens=config.max_tokens)


def account_name(model: str) -> str:
    """The file name of a model's account: another address of the same model continues it."""
    readable = re.sub(r"[^\w.-]+", "-", model)[-60:].strip("-.")
    digest = hashlib.blake2b(model.encode(), digest_size=4).hexdigest()
    return f"account-{readable}-{digest}.json"


class EngineChat:
    """A model in this process that answers chats, with its own chat template.

    `counts`: as for `ChatClient`; a conversation that is too long for the model counts as `failed`.
    """

    def __init__(
        self, spec: EngineSpec, ledger: Ledger, *, when_spent: WhenSpent = "halt", shared: bool = True
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._spec = spec
        self._ledger = ledger
        self._when_spent = when_spent
        self._shared = shared
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._stop_token_ids: tuple[int, ...] = ()
        self._engine: RolloutEngine | None = None
        self._lock = threading.Lock()  # only one thread may use an engine at a time

    def ask(self, requests: Sequence[ChatRequest], on_reply: OnReply) -> None:
        """Ask everything; replies arrive as they finish, None for what could not be asked."""
        with self._lock:
            samples: dict[int, SampleRequest] = {}
            for i, request in enumerate(requests):
                sample = self._plan(i, request)
                if sample is None:
                    on_reply(i, None)
                else:
                    samples[i] = sample
            if samples:
                self._sample(samples, on_reply)

    def close(self) -> None:
        """Free the model, if it was loaded."""
        with self._lock:
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def _plan(self, key: int, request: ChatRequest) -> SampleRequest | None:
        tokenizer = self._load_tokenizer()
        self.counts["asked"] += 1
        prompt = render(tokenizer, request.messages, add_generation_prompt=True, tokenize=True)
        if len(prompt) + request.max_tokens > context_length_of(self._spec.path):
            self.counts["failed"] += 1
            return None
        try:
            self._ledger.book()
        except BudgetSpent as spent:
            self.counts["over_budget"] += 1
            if self._when_spent == "halt":
                raise StageHalted(
                    f"the judge {self._spec.path} has spent its budget: {spent}. Raise it and run again: "
                    'the run resumes here and asks nothing twice. Or set when_spent = "missing" to '
                    "continue without these judgments"
                ) from None
            return None
        params = SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            stop_token_ids=self._stop_token_ids,
        )
        return SampleRequest(key, tuple(prompt), params, request.seed or 0)

    def _sample(self, samples: dict[int, SampleRequest], on_reply: OnReply) -> None:
        if self._engine is None:
            self._engine = self._spec.open()
        requests = list(samples.values())
        finished = (
            iter_shared(self._engine, self._spec, requests)
            if self._shared
            else iter_samples(self._engine, requests)
        )
        for result in itertools.chain.from_iterable(finished):
            completion = result.completion
            num_tokens = len(samples[result.key].prompt_token_ids) + len(completion.token_ids)
            self._ledger.add_tokens(num_tokens)
            on_reply(result.key, ChatReply(completion.text, None, completion.finish_reason))

    def _load_tokenizer(self) -> PreTrainedTokenizerBase:
        if self._tokenizer is None:
            tokenizer = load_tokenizer(self._spec.path)
            if not tokenizer.chat_template:
                raise ModelError(
                    f"{self._spec.path}: the tokenizer has no chat template, and judges are asked in chats; "
                    "name a model after SFT, or set `chat_template` in its tokenizer_config.json"
                )
            self._tokenizer = tokenizer
            self._stop_token_ids = stop_token_ids(self._spec.path, tokenizer)
        return self._tokenizer


def judge_summary(*judges: ModelJudge | None) -> dict[str, int]:
    """The counts of all of a stage's judges, as metrics of the stage; empty if it has none."""
    opened = [judge for judge in judges if judge is not None]
    counts = sum((judge.counts for judge in opened), Counter[str]())
    return {f"judge/{name}": counts[name] for name in COUNTS} if opened else {}


COUNTS = ("asked", "cached", "retried", "failed", "unparsed", "over_budget", "missing")
"""The counts of a judge (`ModelJudge.counts`), in the order in which they are shown."""


def replies_folder(run_folder: Path) -> Path:
    """The folder where a run keeps judges' replies."""
    return run_folder / REPLIES_NAME
