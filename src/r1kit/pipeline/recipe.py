"""A recipe: the tables of one TOML file, checked as a whole before anything runs.

    [run]              name, output_dir, seed, processes, trackers, shard
    [model]            base, dtype, device
    [engine]           how to sample
    [problems.<name>]  named sets of problems
    [judges.<name>]    named judges
    [stages.<name>]    what to do; `kind` says what it is, `model` and `data` name other stages
    [eval]  [report]   what to measure at the end

`recipe_file` handles `extends` and `--set`. Each table has its own rules; this module checks the names in
them against each other. A named stage must exist and produce what it is used for, problem sets and rewards
must exist, and stages must not form a circle.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from r1kit.cold_start import ColdStartConfig
from r1kit.config import Config, Key, Source, dotted, suggest, validate
from r1kit.data.guests import find_checkpoint, find_oracle
from r1kit.data.jsonl import read_jsonl
from r1kit.data.sources import ProblemSource
from r1kit.errors import DataError, RecipeError
from r1kit.evaluate.run import EvalConfig
from r1kit.grpo import GrpoConfig
from r1kit.judges.config import JudgeConfig
from r1kit.model.gguf import ENDING, is_model_path
from r1kit.model.precision import Precision
from r1kit.pipeline.inherited_paths import rewrite_paths
from r1kit.pipeline.order import find_circle
from r1kit.pipeline.recipe_file import read_recipe_file
from r1kit.pipeline.stages import GIVES, Reference, Role, StageConfig, references
from r1kit.preferences import PreferencesConfig
from r1kit.rejection import RejectionConfig
from r1kit.report import ReportConfig
from r1kit.rewards.build import REWARD_NAMES
from r1kit.sft import SftConfig
from r1kit.text.template import parse_response
from r1kit.training.trackers import Service
from r1kit.types import PromptStyle

BASE = "base"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class RunConfig(Config):
    """The entire run. `output_dir` is relative to the current folder, all other paths to the recipe's."""

    name: str  # what the run is called; by default its folder too
    output_dir: str | None = None  # None: runs/<name>
    seed: int = 0  # every random act of the run depends on it
    processes: int = Field(default=1, ge=1)  # ranks on this machine; `r1 run` starts them, torchrun its own
    # Trackio and Weights & Biases beside TensorBoard; each is an extra of that name, and off by default
    trackers: list[Service] = Field(default_factory=list)
    shard: bool = False  # each rank keeps only a part of what is trained (FSDP2); no effect with one process

    @property
    def folder(self) -> Path:
        """Where the run's folder is."""
        return Path(self.output_dir or f"runs/{self.name}").expanduser()


class ModelConfig(Config):
    """The base model: `tinyworld` or another guest's model, a Hugging Face name, or a folder."""

    base: str  # what stages mean by `base`
    dtype: Precision = "auto"  # see `precision`: bf16-mixed on a GPU and where a CPU gains by it
    device: str = "auto"  # auto: cuda where there is one


class EngineConfig(Config):
    """The sampler. `max_rows`: the number of completions sampled at a time; it does not change them."""

    kind: Literal["local"] = "local"  # our own sampler; others are refused
    max_rows: int = Field(default=256, ge=1)  # completions sampled at a time: speed and memory


class EvalTable(EvalConfig):
    """What is evaluated: stages, `base` or other models; by default the base and all model stages."""

    stages: list[str] | None = None  # whose models; none: the base and all model stages
    # how to prompt a model, if not in the style it was trained in: `styles = { "owner/model" = "chat" }`
    styles: dict[str, PromptStyle] = Field(default_factory=dict)

    @property
    def sets(self) -> list[str]:
        """Every problem set of the evaluation."""
        return list(dict.fromkeys([*self.problems, *self.general]))


class _Judges(Config):
    judges: dict[str, JudgeConfig]


class Recipe(Config):
    """Everything that a run is told to do."""

    run: RunConfig
    model: ModelConfig
    engine: EngineConfig = EngineConfig()
    problems: dict[str, ProblemSource] = Field(default_factory=dict)
    judges: dict[str, JudgeConfig] = Field(default_factory=dict)
    stages: dict[str, Annotated[StageConfig, Field(discriminator="kind")]]
    eval: EvalTable | None = None
    report: ReportConfig = ReportConfig()
    _folder: Path = PrivateAttr(default_factory=Path)

    @property
    def folder(self) -> Path:
        """The folder of the recipe's file, to which paths in it are relative."""
        return self._folder


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, the tables that it was made from, and where each part of them was read."""

    recipe: Recipe
    table: dict[str, Any]
    source: Source


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """The recipe in a file, with bases and settings merged, checked.

    Raises a `RecipeError` that lists every fault with its line.
    """
    return load_recipe_whole(path, settings).recipe


def load_recipe_whole(path: Path, settings: Sequence[str] = ()) -> LoadedRecipe:
    """`load_recipe`, with the tables that the recipe was made from."""
    table, source = read_recipe_file(path, settings)
    recipe = _validate(table, source)
    # which values are paths is known only once the recipe is valid; so it is validated again after a rewrite
    if rewrite_paths(recipe, table, source):
        recipe = _validate(table, source)
    if faults := list(_faults(recipe, source)):
        raise RecipeError("\n".join(dict.fromkeys(faults)))
    if circle := find_circle(recipe.stages):
        place = source.place(["stages", circle[0], "model"])
        raise RecipeError(
            f"{place}: stages need each other in a circle: {' -> '.join(circle)}; one must start it."
        )
    recipe._folder = path.parent
    return LoadedRecipe(_with_styles(recipe), table, source)


def _validate(table: dict[str, Any], source: Source) -> Recipe:
    # judges first: validation of the stages replaces a judge's name by its table
    judges = validate(_Judges, {"judges": table.get("judges", {})}, source).judges
    return validate(Recipe, table, source, context={"judges": judges})


def evaluated_models(recipe: Recipe) -> list[str]:
    """What to evaluate: the models that [eval] names, else the base and every model stage."""
    if recipe.eval is None:
        return []
    if recipe.eval.stages is not None:
        return list(recipe.eval.stages)
    return [BASE, *(name for name, stage in recipe.stages.items() if GIVES[stage.kind] == "model")]


def style_of(recipe: Recipe, model: str) -> PromptStyle:
    """The style in which a model is prompted wherever it is sampled: the one it was trained in.

    A GRPO stage states its style; an SFT stage has the style of its data. `base`, guests' models and whatever
    an SFT or zero stage starts from are base models, prompted with Table 1. Other folders and hub names are
    assumed to be finished chat models.
    """
    stage = recipe.stages.get(model)
    match stage:
        case GrpoConfig():
            return stage.prompt_style
        case SftConfig():
            return _style_of_data(recipe, stage)
        case None:
            return "zero" if is_base(model) or model in _started_from(recipe) else "chat"
    return "chat"


def is_base(model: str) -> bool:
    """Whether a name is a base model available to every recipe: its own, or a guest's."""
    return model == BASE or find_checkpoint(model) is not None


def eval_style(recipe: Recipe, model: str) -> PromptStyle:
    """The style in which the evaluation prompts a model: that of `eval.styles`, else the model's own."""
    given = recipe.eval.styles.get(model) if recipe.eval is not None else None
    return given or style_of(recipe, model)


def _started_from(recipe: Recipe) -> set[str]:
    """The models that SFT, or GRPO in Table 1's style, starts from."""
    return {
        stage.model
        for stage in recipe.stages.values()
        if isinstance(stage, SftConfig) or (isinstance(stage, GrpoConfig) and stage.prompt_style == "zero")
    }


def _style_of_data(recipe: Recipe, stage: SftConfig) -> PromptStyle:
    """The style of the files' first records; "chat" for data of stages, and for a mixture of styles."""
    names = [stage.data] if isinstance(stage.data, str) else stage.data
    files = [recipe.folder / Path(name).expanduser() for name in names if name not in recipe.stages]
    if len(files) < len(names):
        return "chat"
    try:
        styles = {_style_of_record(next(read_jsonl(file))[1]) for file in files}
    except (OSError, DataError, StopIteration):  # the checks of data files report it
        return "chat"
    return "zero" if styles == {"zero"} else "chat"


def _style_of_record(row: Mapping[str, Any]) -> str:
    is_zero = parse_response(str(row.get("response")), "zero").well_formed
    return str(row.get("style") or ("zero" if is_zero else "chat"))


def _with_styles(recipe: Recipe) -> Recipe:
    """The recipe with `prompt_style` filled in for every model that a data stage samples."""

    def asked(config: Any, model: Any) -> Any:
        if config.prompt_style is not None or not isinstance(model, str):
            return config
        return config.model_copy(update={"prompt_style": style_of(recipe, model)})

    stages: dict[str, StageConfig] = {}
    for name, stage in recipe.stages.items():
        match stage:
            case RejectionConfig() | PreferencesConfig():
                stages[name] = asked(stage, stage.model)
            case ColdStartConfig():
                sources = [s if s.kind == "few_shot" else asked(s, s.model) for s in stage.sources]
                stages[name] = stage.model_copy(update={"sources": sources})
            case _:
                stages[name] = stage
    return recipe.model_copy(update={"stages": stages})


def _faults(recipe: Recipe, source: Source) -> Iterator[str]:
    """One sentence, with its place, for each name that does not fit."""
    if not recipe.stages:
        yield f"{source.path}: there is no stage; add a table such as [stages.zero]."
    for table in ("stages", "problems", "judges"):
        for name in getattr(recipe, table):
            taken = _is_taken(table, name)
            if not _NAME.fullmatch(name) or taken:
                why = "is taken" if taken else "should be letters, digits, `_` and `-`"
                yield f"{source.place([table, name])}: `{table}.{name}`: the name {why}; choose another."
    yield from _without_faults(recipe, source)
    for name, stage in recipe.stages.items():
        for reference in references(stage):
            if fault := _reference_fault(recipe, source, name, reference):
                keys: list[Key] = ["stages", name, *reference.keys]
                yield f"{source.place(keys)}: `{dotted(keys)}` = {reference.target!r}: {fault}"
    for name, judge in recipe.judges.items():
        if judge.is_local and (fault := _target_fault(recipe, source, "model", judge.model)):
            keys = ["judges", name, "model"]
            yield f"{source.place(keys)}: `{dotted(keys)}` = {judge.model!r}: {fault}"
    if recipe.run.shard:
        for name, stage in recipe.stages.items():
            if getattr(stage, "lora", None) is not None:
                place = source.place(["stages", name, "lora"])
                yield (
                    f"{place}: `stages.{name}.lora` can't be used together with run.shard yet; leave one out."
                )
    if recipe.eval is not None:
        yield from _eval_faults(recipe, recipe.eval, source)


def _is_taken(table: str, name: str) -> bool:
    """Whether a name already means something else in a recipe, or in the run's folder."""
    if table == "stages":
        # in the run's folder, eval/ holds the evaluations, and reviews/ those of finished data
        return name in ("eval", "reviews") or is_base(name)
    # a field that takes a judge's name also takes a guest's oracle, or "flag" for a problem's own flag
    return table == "judges" and (name == "flag" or find_oracle(name) is not None)


def _without_faults(recipe: Recipe, source: Source) -> Iterator[str]:
    """Sets that leave out the questions of one that is not there, or of one another."""
    for name, problems in recipe.problems.items():
        place = source.place(["problems", name, "without"])
        for other in problems.without:
            if other not in recipe.problems:
                yield f"{place}: `problems.{name}.without` names {other!r}: {_no_set(recipe, other)}"
            elif recipe.problems[other].without:
                yield (
                    f"{place}: `problems.{name}.without` names {other!r}, which has a `without` of its own: "
                    "name sets that have none."
                )


def _eval_faults(recipe: Recipe, config: EvalTable, source: Source) -> Iterator[str]:
    for field, names in (("problems", config.problems), ("general", config.general)):
        for name in names:
            if name not in recipe.problems:
                place = source.place(["eval", field])
                yield f"{place}: `eval.{field}` names {name!r}: {_no_set(recipe, name)}"
    if not config.sets:
        yield f"{source.place(['eval'])}: `eval` has nothing to evaluate on; name problem sets in `problems`."
    judge = config.judge
    if (
        judge is not None
        and judge.is_local
        and (fault := _target_fault(recipe, source, "model", judge.model))
    ):
        yield f"{source.place(['eval', 'judge', 'model'])}: `eval.judge.model` = {judge.model!r}: {fault}"
    for name in config.styles:
        if name not in (evaluated := evaluated_models(recipe)):
            hint = suggest(name, evaluated)
            place = source.place(["eval", "styles", name])
            yield f"{place}: `eval.styles` names {name!r}, which is not evaluated; {hint}"
    for name in config.stages or ():
        if fault := _target_fault(recipe, source, "model", name):
            yield f"{source.place(['eval', 'stages'])}: `eval.stages` names {name!r}: {fault}"


def _reference_fault(recipe: Recipe, source: Source, stage: str, reference: Reference) -> str | None:
    target = reference.target
    if reference.role == "problems":
        return None if target in recipe.problems else _no_set(recipe, target)
    if reference.role == "reward":
        return _reward_fault(source, target)
    if target == stage:
        return "a stage can't start from itself."
    return _target_fault(recipe, source, reference.role, target)


def _no_set(recipe: Recipe, name: str) -> str:
    if not recipe.problems:
        return f"there is no such problem set; add a table [problems.{name}]."
    return f"there is no such problem set; {suggest(name, list(recipe.problems))}"


_WHAT: dict[Role, str] = {
    "model": "a model",
    "sft data": "data for SFT",
    "preference data": "preference data",
    "reward model": "a reward model",
    "file": "a file",
}


def _target_fault(recipe: Recipe, source: Source, role: Role, target: str) -> str | None:
    """What is wrong with a name that should stand for a model or data; None if it fits."""
    fitting = [name for name, stage in recipe.stages.items() if GIVES[stage.kind] == role]
    if target in recipe.stages and role != "file":
        if target in fitting:
            return None
        kind = recipe.stages[target].kind
        there_are = f"stages that do: {', '.join(fitting)}." if fitting else "no stage here does."
        return f"that stage is of kind {kind}, which does not give {_WHAT[role]}; {there_are}"
    if role == "model" and is_base(target):
        return None
    path = source.path.parent / Path(target).expanduser()
    if role in ("model", "reward model"):
        here = is_model_path(path) or is_model_path(Path(target).expanduser())
        if here or (re.fullmatch(r"[\w.-]+/[\w.-]+", target) and not target.endswith(ENDING)):
            return None  # whether a hub name exists is found out when it is loaded: no network is needed here
        known = [*fitting, *((BASE,) if role == "model" else ())]
        return f"neither a stage, a folder nor a hub name (`owner/model`); {suggest(target, known)}"
    if path.is_file():
        return None
    if role == "file":
        return f"there is no file {path}."
    return f"neither a stage nor a file; {suggest(target, fitting)}"


def _reward_fault(source: Source, name: str) -> str | None:
    file, separator, function = name.rpartition(":")
    if separator:
        if not (source.path.parent / file).is_file():
            return f"there is no file {source.path.parent / file}."
        return None if function.isidentifier() else "write it as `file.py:function`."
    return None if name in REWARD_NAMES else f"there is no such reward; {suggest(name, list(REWARD_NAMES))}"


def resolved(config: Config) -> dict[str, Any]:
    """A configuration as plain JSON with defaults filled in, as manifests hold it."""
    return config.model_dump(mode="json")
