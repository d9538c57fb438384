"""`r1 doctor`: recipes with one fault each, named with its place and what to do; and one without."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1kit import cli
from r1kit.errors import RecipeError
from r1kit.pipeline.doctor import examine, refuse_faults
from r1kit.pipeline.plan import plan_jobs
from r1kit.pipeline.run import open_run, run_recipe
from tests.judges.chat_server import chat_server
from tests.tiny_models import CHAT_TEMPLATE, tiny_model

RECIPE = """\
[run]
name = "sick"
output_dir = "OUT"

[model]
base = "base_model"
device = "cpu"

[problems.sums]
source = "sums.jsonl"
columns = { question = "q", answer = "a", id = "id" }

[stages.zero]
kind = "grpo"
model = "base"
prompt_style = "zero"
problems = { sums = 1.0 }
rewards = { accuracy = 1.0 }
steps = 3
problems_per_step = 2
mini_batches = 1
max_new_tokens = 64

[stages.dev2]
kind = "grpo"
model = "zero"
prompt_style = "chat"
problems = { sums = 1.0 }
rewards = { accuracy = 1.0 }
steps = 3
problems_per_step = 2
mini_batches = 1
max_new_tokens = 64
"""
ROWS = [{"id": f"sum-{n}", "q": f"What is {n} + 1?", "a": str(n + 1)} for n in range(3)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


class Patient:
    """A recipe in a folder, with a real tiny model."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.recipe = folder / "recipe.toml"
        base = folder / "base_model"
        base.mkdir(parents=True)
        for file in model.iterdir():
            (base / file.name).write_bytes(file.read_bytes())
        self.write_rows(ROWS)
        self.recipe.write_text(RECIPE.replace("OUT", str(folder / "out")), encoding="utf-8")

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.folder / "sums.jsonl").write_text(text, encoding="utf-8")

    def edit(self, old: str, new: str) -> None:
        text = self.recipe.read_text(encoding="utf-8")
        assert old in text
        self.recipe.write_text(text.replace(old, new), encoding="utf-8")

    def edit_tokenizer(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        path = self.folder / "base_model" / name
        table = json.loads(path.read_text(encoding="utf-8"))
        change(table)
        path.write_text(json.dumps(table), encoding="utf-8")

    def warnings(self) -> list[str]:
        return [warning for check in examine(open_run(self.recipe)) for warning in check.warnings]

    def faults(self, **options: Any) -> list[str]:
        checks = examine(open_run(self.recipe), **options)
        return [fault for check in checks for fault in check.faults]


@pytest.fixture
def patient(tmp_path: Path, model: Path) -> Patient:
    return Patient(tmp_path / "patient", model)


def test_somebody_elses_reward_model_needs_a_head_and_the_label_that_is_meant(patient: Patient) -> None:
    patient.edit(
        'prompt_style = "chat"',
        'prompt_style = "chat"\nreward_models = { safety = { model = "other", label = "ok" } }',
    )
    other = patient.folder / "other"
    shutil.copytree(patient.folder / "base_model", other)
    [fault] = patient.faults()
    assert fault.startswith("stages.dev2.reward_models.safety: ")
    assert "is a Qwen3ForCausalLM, which has no trained head to score with" in fault
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": ["Qwen3ForSequenceClassification"], "id2label": {"0": "bad", "1": "good"}}
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    [fault] = patient.faults()
    assert "has no label 'ok'; it has 0 'bad', 1 'good'" in fault
    patient.edit('label = "ok"', 'label = "good"')
    assert not patient.faults()


def test_a_base_that_is_not_there_is_said_once_of_each_table(patient: Patient) -> None:
    patient.edit('base = "base_model"', 'base = "./bsae_model"')
    faults = patient.faults()
    assert faults
    tables = [fault.split(": ")[0].split(".")[:2] for fault in faults if "no such folder" in fault]
    assert len(tables) == len({tuple(table) for table in tables}) == len(faults), faults


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["r1", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_where_nothing_is_wrong_a_table_says_what_was_looked_at(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "doctor", patient.recipe) == 0
    out = capsys.readouterr().out
    assert "3 truths score as right, corrupted as wrong" in out
    assert "think tags survive the tokenizer" in out
    assert "think tags survive tokenizer and chat template" in out
    assert "+ 64 of 1024 tokens" in out


def test_what_a_set_leaves_out_is_told(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    patient.write_rows([*ROWS, {"id": "none", "q": "What is left?", "a": "notfound"}])
    patient.edit('source = "sums.jsonl"', 'source = "sums.jsonl"\non_bad = "skip"')
    assert call(monkeypatch, "doctor", patient.recipe) == 0
    assert "warning: problems.sums: sums.jsonl: 3 problems kept, 1 skipped:" in capsys.readouterr().out


def test_rows_that_can_not_be_verified_are_one_line_with_count_example_and_places(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [{"id": f"bad-{n}", "q": f"And {n}?", "a": f"\\frac{{{n}"} for n in range(7)]
    patient.write_rows([ROWS[0], *bad, ROWS[1]])
    [fault] = patient.faults()
    assert fault.startswith("problems.sums: 7 rows: ")  # all of them, not the first five
    assert "(id 'bad-0')" in fault
    assert "does not score as correct under its own verifier" in fault
    for line in (2, 3, 4, 5):
        assert f"sums.jsonl:{line}" in fault
    assert fault.endswith('and 3 more; fix such rows, or leave them out with `on_bad = "skip"`')
    assert call(monkeypatch, "doctor", patient.recipe) == 2
    assert capsys.readouterr().err.count("7 rows: ") == 1
    patient.edit('source = "sums.jsonl"', 'source = "sums.jsonl"\non_bad = "skip"')
    assert patient.faults() == []


def test_prompts_that_leave_no_room_are_named(patient: Patient) -> None:
    patient.write_rows([*ROWS, {"id": "novel", "q": "word " * 900 + "?", "a": "7"}])
    faults = patient.faults()
    assert len(faults) == 2  # of both stages
    assert "stages.zero: prompts of sums: 1 prompts plus max_new_tokens = 64 exceed the 1024" in faults[0]
    assert "novel (" in faults[0]
    assert "lower max_new_tokens, or leave these prompts out" in faults[0]


def test_a_template_that_drops_the_reasoning_of_finished_turns_is_no_fault(patient: Patient) -> None:
    path = patient.folder / "base_model" / "chat_template.jinja"
    assert path.is_file()
    path.write_text(CHAT_TEMPLATE.replace("m['content']", "m['content'].split('</think>')[-1]"))
    assert patient.faults() == []


def test_a_template_that_closes_the_thought_in_the_prompt_is_named_where_one_is_wanted(
    patient: Patient,
) -> None:
    path = patient.folder / "base_model" / "chat_template.jinja"
    path.write_text(
        CHAT_TEMPLATE.replace("<|assistant|>{% endif %}", "<|assistant|><think></think>{% endif %}")
    )
    [fault] = patient.faults()
    assert fault.startswith("stages.dev2: problems.sums: the chat template of ")
    assert f"{len(ROWS)} prompts want it" in fault
    path.write_text(CHAT_TEMPLATE.replace("<|assistant|>{% endif %}", "<|assistant|><think>{% endif %}"))
    assert patient.faults() == []


def test_rows_that_the_chat_template_refuses_are_named(patient: Patient) -> None:
    path = patient.folder / "base_model" / "chat_template.jinja"
    path.write_text(
        "{% if '9' in messages[-1]['content'] %}{{ raise_exception('Nines are not said here') }}{% endif %}"
        + CHAT_TEMPLATE
    )
    patient.write_rows([*ROWS, {"id": "nine", "q": "What is 99 - 0?", "a": "99"}])
    faults = patient.faults()
    assert all("Nines are not said here" in fault for fault in faults)
    assert any(f"sums.jsonl:{len(ROWS) + 1}: " in fault for fault in faults)


def test_a_tokenizer_that_changes_text_is_named(patient: Patient) -> None:
    patient.edit_tokenizer("tokenizer.json", lambda table: table.update(normalizer={"type": "Lowercase"}))
    faults = patient.faults()
    assert len(faults) == 2
    assert "does not give a response back as it was" in faults[0]
    assert "one plus" in faults[0]


def test_an_own_reward_that_can_not_be_imported_is_named(patient: Patient) -> None:
    (patient.folder / "mine.py").write_text("def score(:\n")
    patient.edit("rewards = { accuracy = 1.0 }", 'rewards = { accuracy = 1.0, "mine.py:score" = 1.0 }')
    faults = patient.faults()
    assert "SyntaxError" in faults[0]
    assert faults[0].startswith("stages.zero.rewards: ")


def test_layers_that_are_to_get_an_adapter_are_looked_for(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient.edit("steps = 3\n", 'steps = 3\nlora = { rank = 2, target_modules = ["q_proj"] }\n')
    looked_at = {check.subject: check.found for check in examine(open_run(patient.recipe))}
    # 2 layers x 2 x (32 + 32)
    assert looked_at["stages.zero.lora"] == "256 weights of the adapter are trained"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "peft", None)
        assert "pip install 'r1kit[lora]'" in patient.faults()[0]
    patient.edit('["q_proj"]', '["q_porj"]')
    assert [fault.split(": ")[0] for fault in patient.faults()] == ["stages.zero.lora", "stages.dev2.lora"]
    assert "did you mean `q_proj`?" in patient.faults()[0]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda body: 500, "gave no readable judgment; check that the server is running"),
        (lambda body: "I like it.", "gave no readable judgment"),
        (lambda body: '{"analysis": "", "correctness": "correct"}', "does not tell 4 from 7"),
        (lambda body: 404, "refuses model"),
    ],
)
def test_a_judge_that_is_no_use_is_named(
    patient: Patient, answer: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    with chat_server(answer) as server:
        add_judge(patient, server.url)
        [fault] = patient.faults()
        assert fault.startswith("stages.zero.judges.accuracy: ")
        assert complaint in fault
        num_asked = len(server.requests)
        assert patient.faults(ask_servers=False) == []
        assert len(server.requests) == num_asked


def test_a_judge_that_tells_right_from_wrong_passes(patient: Patient) -> None:
    def answer(body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        grade = "correct" if "It is 4." in prompt else "incorrect"
        return f'{{"analysis": "", "correctness": "{grade}"}}'

    with chat_server(answer) as server:
        add_judge(patient, server.url)
        checks = {check.subject: check for check in examine(open_run(patient.recipe))}
    check = checks["stages.zero.judges.accuracy"]
    assert check.faults == []
    assert "answers, and tells right from wrong" in check.found


def add_judge(patient: Patient, url: str) -> None:
    table = f'[stages.zero.judges.accuracy]\nbase_url = "{url}"\nmodel = "m"\n\n[stages.dev2]'
    patient.edit("[stages.dev2]", table)


def test_a_run_looks_before_the_first_stage_that_trains_and_only_then(patient: Patient) -> None:
    made: list[str] = []

    def train(context: Any, config: Any) -> dict[str, float | int | str]:
        made.append(context.name)
        (context.work_dir / "model").mkdir(exist_ok=True)
        (context.work_dir / "model" / "config.json").write_text("{}")
        return {}

    def run() -> None:
        run_recipe(patient.recipe, runners={"grpo": train}, stages=["zero"])

    novel = {"id": "novel", "q": "word " * 900 + "?", "a": "7"}
    patient.write_rows([*ROWS, novel])
    with pytest.raises(RecipeError, match="novel"):
        run()
    assert made == []
    patient.write_rows(ROWS)
    run()
    assert made == ["zero"]
    refuse_faults(open_run(patient.recipe))
    # what was begun is gone on with: a long prompt that turns up later is the stage's own error
    patient.write_rows([*ROWS, novel])
    run()
    assert made == ["zero", "zero"]


def test_a_judge_of_the_evaluation_is_asked_too(patient: Patient) -> None:
    text = patient.recipe.read_text(encoding="utf-8")
    judge = (
        '\n[eval]\nproblems = ["sums"]\n[eval.judge]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "nobody"\n'
    )
    patient.recipe.write_text(text + judge, encoding="utf-8")
    checks = examine(open_run(patient.recipe))
    assert any("eval.judge" in fault and "nobody" in fault for check in checks for fault in check.faults)


def test_a_missing_file_is_no_row_to_mend(patient: Patient) -> None:
    text = patient.recipe.read_text(encoding="utf-8")
    recipe = text + '\n[problems.lost]\nsource = "nowhere.jsonl"\nkind = "math"\n'
    patient.recipe.write_text(recipe, encoding="utf-8")
    [fault] = [f for check in examine(open_run(patient.recipe), ask_servers=False) for f in check.faults]
    assert "nowhere.jsonl" in fault
    assert "fix the row" not in fault


def test_a_run_of_some_stages_is_not_refused_for_sets_that_only_others_use(patient: Patient) -> None:
    text = patient.recipe.read_text(encoding="utf-8")
    recipe = text + '\n[problems.lost]\nsource = "nowhere.jsonl"\nkind = "math"\n'
    patient.recipe.write_text(recipe, encoding="utf-8")
    context = open_run(patient.recipe)
    refuse_faults(context, plan_jobs(context.recipe))
    with pytest.raises(RecipeError, match="nowhere"):
        refuse_faults(context)
