"""Resolves a recipe for its jobs: names to files, problem sets to problems, and each job's key."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from r1kit.config import suggest
from r1kit.data.questions import question_key
from r1kit.data.sources import load_problems
from r1kit.errors import DataError, ModelError, RecipeError, UserError
from r1kit.judges.opening import replies_folder
from r1kit.model.gguf import is_model_path
from r1kit.model.loading import mlp_elements, pick_device, resolve_model
from r1kit.model.precision import compute_dtype, multiplies_bfloat16
from r1kit.pipeline.fingerprints import Fingerprints, problems_fingerprint
from r1kit.pipeline.folder import RunFolder
from r1kit.pipeline.manifest import Key
from r1kit.pipeline.plan import Job
from r1kit.pipeline.recipe import BASE, Recipe, eval_style, resolved
from r1kit.pipeline.stages import Reference
from r1kit.ranks import collectives
from r1kit.rewards.accuracy import verify_problem
from r1kit.stage import Progress, SilentProgress, StageContext, Tracking
from r1kit.types import Problem


class RunContext:
    """A recipe and its run folder. Problem sets are loaded and checked once, when first needed."""

    def __init__(
        self,
        recipe: Recipe,
        recipe_path: Path,
        *,
        settings: Sequence[str] = (),
        progress: Progress | None = None,
        writes: bool = True,
    ) -> None:
        self.recipe = recipe
        self.recipe_path = recipe_path
        self.settings = tuple(settings)  # of the command line, as typed
        self.folder = RunFolder(recipe.run.folder)
        self.progress = progress or SilentProgress()
        self.device = pick_device(recipe.model.device)
        self.dtype = self._dtype()
        self._fingerprints = Fingerprints(self.folder.path / ".fingerprints.json", writes=writes)
        self.skipped: dict[str, str] = {}  # notes on what was left out, by problem set
        self._problems: dict[str, list[Problem]] = {}
        self._shared: set[str] = set()
        self._set_hashes: dict[str, str] = {}

    def _dtype(self) -> str:
        precision = self.recipe.model.dtype
        elements = 0
        if precision == "auto" and self.device == "cpu" and multiplies_bfloat16():
            try:
                elements = mlp_elements(self.model_path(BASE))
            except ModelError:  # reported where the model is needed
                elements = 0
        return compute_dtype(precision, self.device, mlp_elements=elements)

    def model_path(self, name: str) -> str:
        """What to pass to `load_model` for a stage, `base`, a guest's model, a folder or a hub name."""
        if name == BASE:
            name = self.recipe.model.base
        elif name in self.recipe.stages:
            return str(self.folder.finished(name) / "model")
        beside_recipe = self.recipe_path.parent / Path(name).expanduser()
        return resolve_model(str(beside_recipe) if is_model_path(beside_recipe) else name)

    def root_path(self, name: str) -> str:
        """The model that a stage's model is trained from, over all stages.

        It has the same shape and tokenizer, and is there before any stage has been made.
        """
        while name in self.recipe.stages:
            name = getattr(self.recipe.stages[name], "model", None) or BASE
        return self.model_path(name)

    def data_path(self, name: str) -> Path:
        """The JSONL file of a stage, or a file by its path. Raises `DataError` if it does not exist."""
        if name in self.recipe.stages:
            path = self.folder.finished(name) / "data.jsonl"
        else:
            path = self.recipe_path.parent / Path(name).expanduser()
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        return path

    def problems(self, name: str) -> list[Problem]:
        """A named problem set; each of its problems has passed its verifier's self-test.

        Raises `RecipeError` for an unknown name, `DataError` for rows that can't be used.
        """
        if name not in self.recipe.problems:
            raise RecipeError(f"no problem set {name!r}; {suggest(name, list(self.recipe.problems))}")
        if name not in self._problems:
            try:
                self._problems[name] = load_problems(
                    self.recipe.problems[name],
                    seed=self.recipe.run.seed,
                    base_dir=self.recipe_path.parent,
                    check=verify_problem,
                    note=partial(self._note_skipped, name),
                    without=self.questions_without(name),
                )
            except DataError as error:
                raise DataError(f"problems.{name}: {error}") from None
        return self._problems[name]

    def questions_without(self, name: str) -> set[str]:
        """The questions that a problem set leaves out as other sets have them (`without`)."""
        others = self.recipe.problems[name].without
        return {question_key(problem) for other in others for problem in self.problems(other)}

    def _note_skipped(self, name: str, text: str) -> None:
        self.skipped[name] = f"problems.{name}: {text}"
        self.progress.note(text)

    def share_problems(self, job: Job) -> None:
        """Give every rank the job's problem sets. Only the first rank loads them and runs their self-tests.

        Called by all ranks. If a set can't be used, all raise what the first one raised.
        """
        if collectives.world_size() == 1:
            return
        # sorted: all ranks must broadcast the sets in one order
        for name in sorted({r.target for r in job.references if r.role == "problems"} - self._shared):
            self._problems[name] = _of_first_rank(partial(self.problems, name))
            self._shared.add(name)

    def key(self, job: Job) -> Key:
        """Everything that the job's outputs depend on, in its present state.

        Raises `UserError` for a missing input.
        """
        config = resolved(job.config)
        if job.kind == "eval":
            # which other models are evaluated makes no difference to this one; its own style does
            for name in ("stages", "styles"):
                config.pop(name)
            config["style"] = eval_style(self.recipe, job.references[0].target)
        return Key(
            config=config,
            inputs={
                f"{r.role} {r.target}": self._fingerprint(r) for r in job.references if r.role != "reward"
            }
            | self._reward_files(job),
            settings=self._settings(),
        )

    @property
    def shards(self) -> bool:
        """Whether each rank keeps only a part of a model in training."""
        return self.recipe.run.shard and collectives.world_size() > 1

    def stage_context(self, stage: str, work_dir: Path, progress: Progress) -> StageContext:
        """What a stage is given to run with."""
        return StageContext(
            name=stage,
            work_dir=work_dir,
            seed=self.recipe.run.seed,
            dtype=self.dtype,
            device=self.device,
            max_rows=self.recipe.engine.max_rows,
            model_path=self.model_path,
            data_path=self.data_path,
            problems=self.problems,
            progress=progress,
            recipe_dir=self.recipe_path.parent,
            replies_dir=replies_folder(self.folder.path),
            shard=self.shards,
            tracking=Tracking(
                tuple(dict.fromkeys(self.recipe.run.trackers)),
                self.recipe.run.name,
                (self.folder.path / ".tracking").resolve(),
            ),
        )

    def _settings(self) -> Mapping[str, Any]:
        # max_rows is left out: a completion does not depend on those sampled beside it
        return {
            "run": {"seed": self.recipe.run.seed},
            "model": {"dtype": self.dtype, "device": self.device.split(":")[0]},
        }

    def _fingerprint(self, reference: Reference) -> str:
        if reference.role == "problems":
            if reference.target not in self._set_hashes:
                self._set_hashes[reference.target] = problems_fingerprint(self.problems(reference.target))
            return self._set_hashes[reference.target]
        if reference.role in ("model", "reward model"):
            path = self.model_path(reference.target)
            if reference.target in self.recipe.stages and not Path(path).is_dir():
                raise DataError(f"{path}: not made yet")
            return self._fingerprints.model(path)
        return self._fingerprints.file(self.data_path(reference.target))

    def _reward_files(self, job: Job) -> dict[str, str]:
        """Fingerprints of the user's own rewards, so that an edit of their code makes the stage again."""
        files = [
            r.target.rpartition(":")[0] for r in job.references if r.role == "reward" and ":" in r.target
        ]
        return {
            f"reward file {file}": self._fingerprints.file(self.recipe_path.parent / file) for file in files
        }


def _of_first_rank(load: Callable[[], list[Problem]]) -> list[Problem]:
    """What the first rank loads, on every rank. A `UserError` of the first rank is raised on all."""
    found: list[Problem] | UserError = []
    if collectives.is_main():
        try:
            found = load()
        except UserError as error:  # sent to the others, which would wait for the broadcast forever
            found = DataError(str(error))
    shared = collectives.broadcast(found)
    if isinstance(shared, UserError):
        raise shared
    return shared
