"""What a plan takes for granted: how long completions are, how many groups teach, how much data is kept.

Each comes from the best source that there is, in this order: what the run's folder has logged, what an
earlier run of the recipe logged (`--like`, or the one that is kept of a shipped recipe), what the nearest
model that exists writes for the stage's problems, and else a plain guess. `notes` says which, in sentences.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from r1kit.data.files import read_rows
from r1kit.data.jsonl import read_jsonl
from r1kit.data.sources import load_problems
from r1kit.errors import DataError, UserError
from r1kit.model.loading import load_tokenizer
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.plan import Job
from r1kit.pipeline.planning.observed import Observed, logged_steps
from r1kit.pipeline.recipe import BASE, eval_style
from r1kit.text.prompts import encode_prompt, encode_response
from r1kit.types import Problem, PromptStyle

# Guesses where nothing is known, each with the range that `estimate` gives it.
CONSTANT_FRAC = 0.25  # of groups; the demo's stages logged 0.11 to 0.29
KEPT_FRAC = 0.5  # of the records that a data stage could write at most
AGAIN_FRAC = 0.5  # of a round's problems
GUESSED_LENGTH_FRAC = 1 / 3  # of max_new_tokens: R1-Zero ended near 10,000 of 32,768 tokens
PROMPT_TOKENS = 128
NUM_PROBLEMS = 1000  # of a set that can't be read here and whose size the recipe does not say
# How far off lengths and amounts of data of each source may be: the factors of the range.
LENGTH_RANGES = {
    "logged": (0.9, 1.1),
    "earlier run": (0.85, 1.15),
    "sampled": (0.67, 1.5),
    "sampled from its ancestor": (0.5, 2.0),
    "guessed": (0.33, 3.0),
    "counted": (1.0, 1.0),
    "half of the most": (0.5, 2.0),
}

_LAST_STEPS = 5  # of a stage under way, whose lengths the rest is taken for
_SAMPLED_RECORDS = 200  # whose tokens are counted; the rest is taken for like them


@dataclass(frozen=True, slots=True)
class Length:
    """A mean length in tokens, and where it is from: a key of `LENGTH_RANGES`."""

    tokens: float
    source: str
    of: str = ""  # the model that was sampled, the run that logged it


@dataclass(frozen=True, slots=True)
class Examples:
    """What is trained on: the number of examples, their mean length in tokens, and the `limit`."""

    num: float
    tokens: float
    limit: int
    source: str


@dataclass(frozen=True, slots=True)
class LengthKey:
    """What lengths are sampled for: a model that exists, asked in a style for problems of these sets."""

    path: str
    style: PromptStyle
    sets: tuple[str, ...]
    limit: int


@dataclass
class Assumptions:
    """Answers to what `work` asks; `sampled` may be filled in later, by a measurement.

    `own`: what the run's folder logged; `earlier`: an earlier run, called `earlier_name`.
    """

    context: RunContext
    own: Mapping[str, Observed] = field(default_factory=dict)
    earlier: Mapping[str, Observed] = field(default_factory=dict)
    earlier_name: str = ""
    reads_problems: bool = True
    sampled: dict[LengthKey, float] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)  # sentences, in order, each once

    def steps_done(self, job: Job) -> int:
        """Steps of an unfinished GRPO stage that its log has."""
        logged = logged_steps(self.context.folder.work(job.name))
        return min(len(logged), int(job.config.steps) - 1)

    def length(self, job: Job, *, general: bool = False) -> float:
        """The mean tokens of a completion of the job, of all its steps that are left."""
        return self.length_with_source(job, general=general).tokens

    def length_with_source(self, job: Job, *, general: bool = False) -> Length:
        """The same, with its source."""
        is_grpo = job.kind == "grpo"
        if is_grpo and (logged := logged_steps(self.context.folder.work(job.name))):
            last = [float(row["completion/length_mean"]) for row in logged[-_LAST_STEPS:]]
            return Length(sum(last) / len(last), "logged", self.context.folder.path.name)
        for observed, source in ((self.own, "logged"), (self.earlier, "earlier run")):
            if (found := observed.get(job.name)) is None:
                continue
            mean = (
                found.general_length if general else found.mean_length(job.config.steps if is_grpo else None)
            )
            if mean is not None:
                return Length(mean, source, self.earlier_name)
        key = self.length_key(job, general=general)
        if key in self.sampled:
            is_own = key.path == self.context.model_path(model_of(job))
            source = "sampled" if is_own else "sampled from its ancestor"
            path = Path(key.path)
            return Length(self.sampled[key], source, path.parent.name if path.name == "model" else path.name)
        return Length(max(1.0, key.limit * GUESSED_LENGTH_FRAC), "guessed")

    def length_key(self, job: Job, *, general: bool = False) -> LengthKey:
        """What would have to be sampled to know the job's lengths."""
        config, model = job.config, model_of(job)
        if job.kind == "grpo":
            sets, style, limit = tuple(config.problem_sets()), config.prompt_style, config.longest_completion
        elif job.kind == "cold_start":
            source = next((s for s in config.sources if isinstance(s.model, str)), config.sources[0])
            sets, style, limit = (source.problems,), source.prompt_style or "zero", source.max_new_tokens
        elif job.kind == "eval":
            sets, style, limit = (
                tuple(config.sets),
                eval_style(self.context.recipe, model),
                config.max_new_tokens,
            )
        else:
            sets = tuple(config.general.problems if general else config.problems)
            style, limit = config.prompt_style or "chat", config.max_new_tokens
        return LengthKey(self.nearest_model(model), style, sets, limit)

    def nearest_model(self, name: str) -> str:
        """The path of a model, or, where it is not made yet, of the one that exists and it starts from."""
        recipe, folder = self.context.recipe, self.context.folder
        while name in recipe.stages and not (folder.finished(name) / "model").is_dir():
            name = getattr(recipe.stages[name], "model", None) or BASE
        return self.context.model_path(name)

    def constant_frac(self, job: Job) -> float:
        """The share of a step's groups that teach nothing."""
        for observed in (self.own, self.earlier):
            if job.name in observed and (frac := observed[job.name].constant_frac) is not None:
                return frac
        return CONSTANT_FRAC

    def unsolved_frac(self, job: Job) -> float:
        """Of the problems of a round of rejection sampling, those that the next round asks again."""
        frac = self.earlier[job.name].again_frac if job.name in self.earlier else None
        return AGAIN_FRAC if frac is None else frac

    def num_problems(self, names: Iterable[str]) -> int:
        """How many problems the sets have together."""
        return sum(self._size(name) for name in dict.fromkeys(names))

    def prompt_tokens(self, job: Job, names: Sequence[str]) -> float:
        """The mean tokens of a prompt, over some problems of each set."""
        problems = [p for name in names for p in self.some_problems(name, 32)]
        tokenizer = self._tokenizer
        if not problems or tokenizer is None:
            return PROMPT_TOKENS
        style: PromptStyle = eval_style(self.context.recipe, model_of(job)) if job.kind == "eval" else (
            getattr(job.config, "prompt_style", None) or "zero"
        )  # fmt: skip
        try:
            return sum(len(encode_prompt(p, tokenizer, style)) for p in problems) / len(problems)
        except UserError:  # a base without a chat template: the stage says so itself
            return PROMPT_TOKENS

    def some_problems(self, name: str, num: int) -> list[Problem]:
        """Some problems of a set, evenly over it; none where it can't be read."""
        problems = self._problems(name)
        return problems[:: max(1, len(problems) // num)][:num] if problems else []

    def examples(self, job: Job) -> Examples:
        """What an SFT or reward-model stage trains on: logged, counted in files, or expected."""
        for observed, source in ((self.own, "logged"), (self.earlier, "earlier run")):
            found = observed.get(job.name)
            if found is not None and found.examples is not None:
                mean = found.example_tokens
                tokens = self._source_tokens(job) if mean is None else mean
                return Examples(found.examples, tokens, math.ceil(tokens), source)
        counts = [self._count(name) for name in _data_names(job)]
        total = max(1.0, sum(count.num for count in counts))
        return Examples(
            total,
            sum(count.num * count.tokens for count in counts) / total,
            max(count.limit for count in counts),
            next((c.source for c in counts if c.source != "counted"), "counted"),
        )

    def _source_tokens(self, job: Job) -> float:
        return max(self._count(name).tokens for name in _data_names(job))

    def _count(self, name: str) -> Examples:
        """The records of one source of data: of its file, else by its configuration."""
        try:
            path = self.context.data_path(name)
        except DataError as error:
            if name not in self.context.recipe.stages:
                self.note(f"{error}: taken for {NUM_PROBLEMS} records of {PROMPT_TOKENS} tokens.")
                return Examples(NUM_PROBLEMS, PROMPT_TOKENS, PROMPT_TOKENS, "guessed")
            return self._expected_records(name)
        tokens = self._mean_tokens(path)
        return Examples(sum(1 for _ in read_jsonl(path)), tokens, math.ceil(tokens), "counted")

    def _mean_tokens(self, path: Path) -> float:
        rows = [row for _, row in islice(read_jsonl(path), _SAMPLED_RECORDS)]
        texts = [
            "\n".join([*(str(m.get("content", "")) for m in row.get("messages", [])), str(row.get(side, ""))])
            for row in rows
            for side in ("response", "chosen", "rejected")
            if side in row
        ]
        if not texts or self._tokenizer is None:
            return PROMPT_TOKENS
        return sum(len(encode_response(text, self._tokenizer)) for text in texts) / len(texts)

    def _expected_records(self, name: str) -> Examples:
        """What a data stage that was not made yet will write, and the mean tokens of prompt and response."""
        config = self.context.recipe.stages[name]
        job = Job(name, config.kind, config, (), ())
        num, sets, general = 0.0, list(getattr(config, "problems", [])), False
        if config.kind == "cold_start":
            sets = list(dict.fromkeys(source.problems for source in config.sources))
            asked = [min(s.num_problems or math.inf, self.num_problems([s.problems])) for s in config.sources]
            num = max(asked) * config.keep_per_problem
        elif config.kind == "rejection":
            num = self.num_problems(config.problems) * (config.keep_hard + config.keep_easy) / 2
            if config.general is not None:
                general, sets = not config.problems, sets or config.general.problems
                kept = self.num_problems(config.general.problems) * config.general.keep_per_problem
                num += kept + (config.general.num_demonstrations or 0)
        elif config.kind == "preferences" and config.model is not None:
            per_problem = (
                config.pairs_per_problem if config.objective == "pairwise" else config.samples_per_problem
            )
            num = self.num_problems(config.problems) * per_problem
        else:
            num = NUM_PROBLEMS / KEPT_FRAC
        observed = self.earlier.get(name)
        known = observed.examples if observed is not None else None
        if known is None:
            self.note(
                f"{name} is not made yet: half of what it could write at most is taken for its records "
                f"({num * KEPT_FRAC:,.0f})."
            )
        if not sets:
            return Examples(num * KEPT_FRAC, PROMPT_TOKENS, 8 * PROMPT_TOKENS, "guessed")
        prompt, length = self.prompt_tokens(job, sets), self.length(job, general=general)
        limit = math.ceil(prompt) + self.length_key(job, general=general).limit
        if known is not None:
            return Examples(known, prompt + length, limit, "earlier run")
        return Examples(num * KEPT_FRAC, prompt + length, limit, "half of the most")

    def note(self, sentence: str) -> None:
        """Something that was assumed and a reader should know."""
        self.notes[sentence] = None

    def _size(self, name: str) -> int:
        problems = self._problems(name)
        if problems is not None:
            return len(problems)
        num = self.context.recipe.problems[name].num_problems
        if (rows := self._rows_of_file(name)) is not None:
            return rows if num is None else min(num, rows)
        if num is None:
            self.note(
                f"problems.{name} was not read, and the recipe does not say how many it has: it is taken for "
                f"{NUM_PROBLEMS:,} problems; num_problems says another number."
            )
        return NUM_PROBLEMS if num is None else num

    def _rows_of_file(self, name: str) -> int | None:
        """How many rows a set's file has, which takes a moment; None where it is no file that is here."""
        source, folder = self.context.recipe.problems[name].source, self.context.recipe_path.parent
        if not (folder / Path(source).expanduser()).is_file():
            return None
        try:
            return len(read_rows(source, split=None, subset=None, base_dir=folder))
        except UserError:
            return None

    def _problems(self, name: str) -> list[Problem] | None:
        """The set without the self-test of its problems, which takes long; None where it can't be read."""
        if not self.reads_problems:
            return None
        if name not in self._loaded:
            recipe = self.context.recipe
            try:
                self._loaded[name] = load_problems(
                    recipe.problems[name], seed=recipe.run.seed, base_dir=self.context.recipe_path.parent
                )
            except UserError as error:
                self._loaded[name] = None
                self.note(f"problems.{name} can't be read ({error}): its size is the recipe's.")
        return self._loaded[name]

    @cached_property
    def _loaded(self) -> dict[str, list[Problem] | None]:
        return {}

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The base's; stages that start from others are taken for alike."""
        if not self.reads_problems:
            return None
        try:
            return load_tokenizer(self.context.model_path(BASE))
        except UserError as error:
            self.note(f"{error} Prompts are taken for {PROMPT_TOKENS} tokens long.")
            return None


def _data_names(job: Job) -> list[str]:
    return [job.config.data] if isinstance(job.config.data, str) else list(job.config.data)


def model_of(job: Job) -> str:
    """The name of the model that a job samples or trains; of several, the first."""
    if job.kind == "eval":
        return job.references[0].target
    if job.kind == "cold_start":
        return next((s.model for s in reversed(job.config.sources) if isinstance(s.model, str)), BASE)
    return getattr(job.config, "model", None) or BASE
