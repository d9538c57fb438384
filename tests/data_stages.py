"""What the tests of data stages share: a context, an engine that writes what a test says, problems."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from r1kit.stage import StageContext
from r1kit.types import Problem
from tests.grpo.scripted import ScriptedEngine


class Notes:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, stage: str, total: int, unit: str) -> None:
        pass

    def step(self, done: int, row: Mapping[str, float]) -> None:
        pass

    def sample(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


def stage_context(
    work_dir: Path, base: Path, problems: Mapping[str, Sequence[Problem]], *, seed: int = 0, **models: Path
) -> StageContext:
    """A context whose models are all `base`, unless named otherwise; data are paths."""
    work_dir.mkdir(parents=True, exist_ok=True)
    return StageContext(
        name="stage",
        work_dir=work_dir,
        seed=seed,
        dtype="float32",
        device="cpu",
        max_rows=8,
        model_path=lambda name: str(models.get(name, base)),
        data_path=Path,
        problems=lambda name: list(problems[name]),
        progress=Notes(),
    )


class Script:
    """Engines that write `write(prompt, number)` in the place of models; `number` counts a prompt's samples.

    `num_sampled` is how many completions were drawn in all; after `stop_after` of them the engine breaks.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, write: Callable[[str, int], str]) -> None:
        self.num_sampled = 0
        self.prompts: list[str] = []
        self.stop_after: int | None = None
        self._numbers: dict[tuple[str, int], int] = {}
        self._write = write
        monkeypatch.setattr(
            "r1kit.sampling.logged.open_engine", lambda spec, tokenizer: self._open(tokenizer)
        )

    def _open(self, tokenizer) -> ScriptedEngine:
        return ScriptedEngine(tokenizer, self._text, on_poll=self._poll)

    def _poll(self) -> None:
        if self.num_sampled == self.stop_after:
            raise KeyboardInterrupt

    def _text(self, prompt: str, seed: int, weights: str) -> str:
        self.num_sampled += 1
        self.prompts.append(prompt)
        # the same request gets the same number again, whatever was drawn before
        taken = [number for (known, _), number in self._numbers.items() if known == prompt]
        number = self._numbers.setdefault((prompt, seed), len(taken))
        return self._write(prompt, number)


def math_problem(number: int, question: str, answer: str, language: str = "en", **more) -> Problem:
    return Problem(
        id=f"p{number}",
        kind=more.pop("kind", "math"),
        messages=({"role": "user", "content": question},),
        ground_truth=answer,
        language=language,
        domain=more.pop("domain", "sums"),
        **more,
    )
