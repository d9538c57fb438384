"""A guest as an installed package brings it: `abacus`, with everything that a guest can have."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from r1kit.data import guests
from tests.tiny_models import tiny_model

MODULE = '''\
"""Sums of small numbers, and manners."""

from pathlib import Path

from r1kit.data.guests import Guest, Oracle, OracleGrade, ProblemMaker, WorkedExample
from r1kit.errors import DataError
from r1kit.types import Problem, Response


def make_sums(split, num, *, seed, largest=5, languages=("en",)):
    if largest < 1:
        raise DataError(f"abacus adds numbers from 1 on, not up to {largest}")
    return [_sum(i, (seed + i) % largest + 1, languages[0]) for i in range(num)]


def _sum(i, a, language):
    messages = ({"role": "user", "content": f"What is {a} + {i}?"},)
    return Problem(f"sum-{i}", "math", messages, ground_truth=str(a + i), domain="sums", language=language)


def make_manners(split, num, *, seed):
    asked = [({"role": "user", "content": f"May I have {i}?"},) for i in range(num)]
    return [Problem(f"manners-{i}", "general", asked[i], domain="manners", language="en") for i in range(num)]


def show_letters(split, num, *, seed):
    return [
        (problem, Response("They ask for it.", f"Dear {i}, of course.", True))
        for i, problem in enumerate(make_manners(split, num, seed=seed))
    ]


def work_examples(problem, num, seed):
    return [WorkedExample(f"What is {i} + 1?", f"After {i} comes {i + 1}.", str(i + 1)) for i in range(num)]


def is_polite(text):
    return "please" in text


def grade(problem, response):
    text = response if isinstance(response, str) else response.summary or ""
    return OracleGrade(is_polite(text), refuses=text.startswith("No"))


def label_pair(problem, a, b, rng, noise):
    return float(is_polite(a) - is_polite(b))


def is_safe(problem, text):
    return "push" not in text


GUEST = Guest(
    name="abacus",
    sources={
        "abacus": ProblemMaker(make_sums, takes=("languages", "largest")),
        "abacus-manners": ProblemMaker(make_manners),
    },
    checkpoints={"abacus": Path(__file__).parent / "base"},
    demonstrations={"abacus-letters": show_letters},
    worked_examples=work_examples,
    oracle=Oracle(grade, is_safe, label_pair, lambda problem, text, rng, noise: is_safe(problem, text)),
    count_tries=lambda domain, text: text.count("click") if domain == "sums" else None,
    built_in="Beads are real here.",
)
'''


def install(site: Path, name: str, module: str) -> None:
    """Write a package `<name>_world` and its metadata into a folder of packages."""
    package = site / f"{name}_world"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "guest.py").write_text(module, encoding="utf-8")
    metadata = site / f"{name}_world-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {name}-world\nVersion: 1.0\n", encoding="utf-8")
    entry = f"[r1kit.guests]\n{name} = {name}_world.guest:GUEST\n"
    (metadata / "entry_points.txt").write_text(entry, encoding="utf-8")


def install_abacus(site: Path) -> None:
    """The guest with its base model, a random one."""
    install(site, "abacus", MODULE)
    tiny_model(site / "abacus_world" / "base")


@contextmanager
def on_the_path(site: Path) -> Iterator[None]:
    """With the packages of a folder installed in this process."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        guests.forget()
        yield
    guests.forget()
    for name in [name for name in set(sys.modules) - before if "_world" in name]:
        del sys.modules[name]


def environment(site: Path) -> dict[str, str]:
    """For a process of its own, with the packages of a folder."""
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
