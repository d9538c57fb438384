"""A recipe that uses an installed guest: its problems, base model, demonstrations and oracle."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1kit.cold_start.config import CandidateSource
from r1kit.cold_start.examples import find_examples
from r1kit.data.guests import find_maker
from r1kit.errors import RecipeError
from r1kit.pipeline.recipe import load_recipe, style_of
from r1kit.pipeline.stages import references
from r1kit.preferences import PreferencesConfig, run_preferences
from tests.abacus import environment, install_abacus, on_the_path
from tests.data_stages import Script, stage_context

RECIPE = """\
[run]
name = "abacus"
processes = 2

[model]
base = "abacus"
device = "cpu"

[problems.sums]
source = "abacus"
num_problems = 4
options = { largest = 3 }

[problems.manners]
source = "abacus-manners"
num_problems = 4

[stages.letters]
kind = "rejection"
model = "base"
general = { demonstrations = "abacus-letters", num_demonstrations = 6 }

[stages.polite]
kind = "sft"
model = "base"
data = "letters"
epochs = 1
tokens_per_batch = 500

[stages.pairs]
kind = "preferences"
model = "polite"
problems = ["manners"]
label = "abacus"

[eval]
problems = ["sums"]
general = ["manners"]
samples = 2
general_samples = 1
max_new_tokens = 8
num_bootstrap = 100
stages = ["base", "polite"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install_abacus(folder)
    return folder


@pytest.fixture
def installed(site: Path) -> Iterator[Path]:
    with on_the_path(site):
        yield site


def recipe(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in RECIPE
    path = folder / "abacus.toml"
    path.write_text(RECIPE.replace(old, new, 1) if old else RECIPE, encoding="utf-8")
    return path


def test_two_ranks_run_a_recipe_of_an_installed_guest(site: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "r1kit", "run", recipe(tmp_path), "--stages", "polite"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(site), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "abacus"
    letters = [json.loads(line) for line in (run / "letters" / "data.jsonl").read_text().splitlines()]
    assert [row["response"].split("\n\n")[-1] for row in letters] == [
        f"Dear {i}, of course." for i in range(6)
    ]
    manifest = json.loads((run / "polite" / "manifest.json").read_text())
    assert manifest["environment"]["world_size"] == 2
    rows = (run / "eval" / "base" / "generations.jsonl").read_text().splitlines()
    graded = [json.loads(row) for row in rows]
    manners = [row for row in graded if row["problem_set"] == "manners"]
    # eight tokens of a random model hold no "please", and are not missing a verdict either
    assert [(row["lenient_correct"], row["closes_politely"], row["refuses"]) for row in manners] == [
        (False, None, False)
    ] * 4
    assert [row["num_tries"] for row in graded if row["problem_set"] == "sums"] == [0] * 8
    assert "Beads are real here." in (run / "report.html").read_text(encoding="utf-8")


def test_names_of_a_guest_are_no_files_and_its_model_is_a_base_model(installed: Path, tmp_path: Path) -> None:
    read = load_recipe(recipe(tmp_path))
    assert style_of(read, "abacus") == "zero"
    assert [r.target for r in references(read.stages["letters"])] == ["base"]
    assert [(r.target, r.role) for r in references(read.stages["pairs"])] == [
        ("polite", "model"),
        ("manners", "problems"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'model = "polite"',
            'model = "bead"',
            "`stages.pairs.model` = 'bead': neither a stage, a folder nor a hub name (`owner/model`); "
            "known here: polite, base.",
        ),
        (
            'model = "polite"',
            'model = "polit"',
            "`stages.pairs.model` = 'polit': neither a stage, a folder nor a hub name (`owner/model`); "
            "did you mean `polite`?",
        ),
        (
            'label = "abacus"',
            'label = "abacos"',
            "`stages.pairs.label` = 'abacos': should be 'tinyworld' or 'abacus', or there is no "
            "such judge; add a table [judges.abacos].",
        ),
        (
            ", num_demonstrations = 6",
            "",
            "`stages.letters.general`: abacus makes any number of them; set `num_demonstrations`.",
        ),
        (
            "[stages.polite]",
            "[stages.abacus]",
            "`stages.abacus`: the name is taken; choose another.",
        ),
        (
            "[stages.letters]",
            '[judges.abacus]\nmodel = "base"\n\n[stages.letters]',
            "`judges.abacus`: the name is taken; choose another.",
        ),
    ],
)
def test_wrong_names_are_told_with_what_there_is(
    installed: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = recipe(tmp_path, old, new)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    lines = str(caught.value).replace(str(path), "").splitlines()
    assert message in [line.split(": ", 1)[1] for line in lines]


def test_a_guests_oracle_labels_its_own_prompts_and_no_others(
    installed: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script(monkeypatch, lambda text, number: f"<think>\nHm.\n</think>\n\nGive it{', please' * number}.")
    maker = find_maker("abacus-manners")
    problems = maker.make("train", 3, seed=0)
    config = PreferencesConfig(
        model="polite", problems=["manners"], label="abacus", samples_per_problem=2, max_length_gap_frac=9.0
    )
    base = site / "abacus_world" / "base"
    with pytest.raises(RecipeError, match="abacus's oracle can't label 'manners-0' of ''; set `label` to a"):
        run_preferences(stage_context(tmp_path, base, {"manners": problems}), config)
    own = [type(p)(p.id, p.kind, p.messages, domain=p.domain, source="abacus") for p in problems]
    summary = run_preferences(stage_context(tmp_path, base, {"manners": own}), config)
    rows = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    assert summary["records"] == 3
    assert {(row["chosen"], row["rejected"], row["difference"]) for row in rows} == {
        ("Give it, please.", "Give it.", 1.0)
    }


def test_a_guests_worked_examples_stand_before_problems(installed: Path, site: Path, tmp_path: Path) -> None:
    source = CandidateSource(
        kind="few_shot", model="base", problems="sums", examples="abacus", num_examples=2
    )
    context = stage_context(tmp_path, site / "abacus_world" / "base", {})
    [problem] = find_maker("abacus").make("train", 1, seed=0)
    examples = find_examples(context, source, "few_shot")(problem)
    assert [example.answer for example in examples] == ["1", "2"]
