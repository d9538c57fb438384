"""`r1 doctor` and data: SFT rows, pairs, prompts, vocabulary, repeated and shared problems, own rewards."""

import json
from pathlib import Path
from typing import Any

import pytest

from r1kit.errors import RecipeError
from r1kit.pipeline.doctor import examine, refuse_faults
from r1kit.pipeline.run import open_run
from r1kit.text.template import format_chat, format_zero
from tests.pipeline.test_doctor import ROWS, Patient
from tests.tiny_models import tiny_model

HEAD = '[run]\nname = "sick"\noutput_dir = "OUT"\n[model]\nbase = "base_model"\ndevice = "cpu"\n'
SFT = '[stages.warm]\nkind = "sft"\nmodel = "base"\ndata = "rows.jsonl"\n'
PAIRS = '[stages.rm]\nkind = "reward_model"\nobjective = "pairwise"\nmodel = "base"\ndata = "rows.jsonl"\n'
TURN = [{"role": "user", "content": "What is 1 + 1?"}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture
def patient(tmp_path: Path, base: Path) -> Patient:
    return Patient(tmp_path / "patient", base)


def rewrite(patient: Patient, stages: str, rows: list[dict[str, Any]]) -> None:
    patient.recipe.write_text(HEAD.replace("OUT", str(patient.folder / "out")) + stages, encoding="utf-8")
    write(patient.folder / "rows.jsonl", rows)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def found(patient: Patient, subject: str) -> str:
    return next(check.found for check in examine(open_run(patient.recipe)) if check.subject == subject)


def sft_row(response: Any, **more: Any) -> dict[str, Any]:
    return {"messages": TURN, "response": response, **more}


def test_sft_rows_are_read_as_the_stage_reads_them_without_a_style(patient: Patient) -> None:
    rows = [sft_row(format_chat("Add.", "2")), sft_row(format_zero("Add.", "2")), sft_row("2", style=None)]
    rewrite(patient, SFT, rows)
    assert patient.faults() == []
    assert found(patient, "stages.warm.data").startswith("3 examples of at most ")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (sft_row(None), "response must be non-empty text, not None"),
        (sft_row(""), "response must be non-empty text, not ''"),
        (sft_row(["2"]), "response must be non-empty text, not ['2']"),
        (sft_row("2", style="Chat"), "style must be zero or chat, not 'Chat'"),
        (sft_row("2<|endoftext|>"), "the response contains the end token"),
        (sft_row("2 \ud83d"), "`response` holds '\\ud83d' at character 3"),
        ({"messages": None, "response": "2"}, "messages must be a non-empty list of turns, not None"),
        ({"response": "2"}, "the record has no `messages`"),
        (
            {"messages": [{"role": "user", "content": "\udc00?"}], "response": "2"},
            "`messages[0].content` holds '\\udc00' at character 1",
        ),
        (
            {"messages": [*TURN, {"role": "assistant", "content": "2"}], "response": "2"},
            "the last turn of messages is the assistant's",
        ),
    ],
)
def test_sft_rows_that_would_stop_the_stage_are_named_before_it(
    patient: Patient,
    row: dict[str, Any],
    says: str,
) -> None:
    rewrite(patient, SFT, [sft_row("2"), row, row])
    [fault] = patient.faults()
    assert fault.startswith(f"stages.warm.data: 2 rows: {patient.folder / 'rows.jsonl'}:2: ")
    assert says in fault
    assert "; the same at " in fault
    with pytest.raises(RecipeError, match="2 rows"):
        refuse_faults(open_run(patient.recipe))


def test_sft_rows_that_are_cut_or_there_twice_are_counted_and_named(patient: Patient) -> None:
    rewrite(patient, SFT + "max_tokens = 20\n", [sft_row("2"), sft_row("one plus " * 20), sft_row("2")])
    assert patient.faults() == []
    left_out, twice = patient.warnings()
    assert "1 of 3 examples are longer than 20 tokens and are left out: " in left_out
    assert "rows.jsonl:2: " in left_out
    assert "1 of 3 examples are duplicates" in twice
    assert "rows.jsonl:3" in twice
    write(patient.folder / "rows.jsonl", [sft_row("one plus " * 20)])
    [fault] = patient.faults()
    assert "all 1 examples are longer than 20 tokens" in fault


def test_tokens_beyond_the_embedding_are_named_and_a_padded_embedding_is_fine(patient: Patient) -> None:
    rewrite(patient, SFT, [sft_row("2"), sft_row("one <step> two")])
    assert patient.faults() == []
    path = patient.folder / "base_model" / "config.json"
    rows = json.loads(path.read_text())["vocab_size"]
    added = {
        "id": rows,
        "content": "<step>",
        "special": False,
        **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
    }
    patient.edit_tokenizer("tokenizer.json", lambda table: table["added_tokens"].append(added))
    [fault] = patient.faults()
    assert "rows.jsonl:2: " in fault
    assert f"the model has {rows} embeddings, and none for the token '<step>' ({rows})" in fault
    [warning] = patient.warnings()
    assert warning.startswith("stages.warm.model: ")
    patient.edit_tokenizer("config.json", lambda table: table.update(vocab_size=rows + 64))
    assert patient.faults() == []
    assert patient.warnings() == []


def pair(chosen: Any, rejected: Any, question: str = "What is 1 + 1?") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "chosen": chosen, "rejected": rejected}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([pair("2", "2")], "chosen and rejected are the same text"),
        (
            [pair(format_chat("Add.", "2"), format_chat("Guess.", "2"))],
            'have the same summary, which is all that is read: set view = "response"',
        ),
        (
            [pair("two " + "plus one " * 40, "one " + "plus one " * 40)],
            "differ only before their last 32 tokens: raise max_tokens",
        ),
    ],
)
def test_pairs_that_are_equal_in_what_is_read_are_refused_where_no_other_is_left(
    patient: Patient,
    rows: list[dict[str, Any]],
    says: str,
) -> None:
    rewrite(patient, PAIRS + "max_tokens = 32\nheld_out_frac = 0\n", rows * 3)
    first, second = patient.faults()
    assert "no pair is left to train on" in first
    assert second.startswith("stages.rm.data: 3 rows: ")
    assert says in second
    write(patient.folder / "rows.jsonl", [*rows, pair("2", "3")])
    assert patient.faults() == []
    assert says in patient.warnings()[0]
    assert found(patient, "stages.rm.data") == "1 examples, 0 of them held out"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (pair("2", None), "rejected must be text, not None"),
        (pair(" ", "3"), "chosen contains nothing that can be read (view summary): ' '"),
        (pair("2 \ud800", "3"), "`chosen` holds '\\ud800' at character 3"),
        ({"messages": TURN, "chosen": "2"}, "no `rejected`"),
    ],
)
def test_pairs_that_would_stop_the_stage_are_named_before_it(
    patient: Patient,
    row: dict[str, Any],
    says: str,
) -> None:
    rewrite(patient, PAIRS, [pair("2", "3"), row])
    [fault] = patient.faults()
    assert fault.startswith(f"stages.rm.data: {patient.folder / 'rows.jsonl'}:2: ")
    assert says in fault


def test_labels_of_one_kind_teach_nothing(patient: Patient) -> None:
    stage = PAIRS.replace("pairwise", "pointwise") + "held_out_frac = 0\n"
    rewrite(patient, stage, [{"messages": TURN, "response": "2", "safe": True}] * 3)
    [fault] = patient.faults()
    assert "every response in it is safe; a safety model needs both" in fault


def test_a_short_prompt_of_many_tokens_is_found_among_long_ones(patient: Patient) -> None:
    long = [{"id": f"long-{n}", "q": "plus " * 150 + f"{n}?", "a": "1"} for n in range(40)]
    patient.write_rows([*long, {"id": "emoji", "q": "\U0001f9ee" * 300 + "?", "a": "1"}])
    faults = patient.faults()
    assert len(faults) == 2  # of both stages
    assert "1 prompts plus max_new_tokens = 64 exceed the 1024" in faults[0]
    assert "emoji (" in faults[0]


def test_questions_that_are_there_twice_are_told_with_their_ids(patient: Patient) -> None:
    again = {"id": "again", "q": " what is 1 +  1?", "a": "2.0"}
    other = {"id": "other", "q": "What is 2 + 1?", "a": "4"}
    patient.write_rows([*ROWS, again, other])
    assert patient.faults() == []
    twice, two_truths = patient.warnings()
    assert twice.startswith("problems.sums: 1 problems appear twice, with one truth: 'sum-1' and 'again'")
    assert two_truths.startswith(
        "problems.sums: 1 questions appear twice, with two truths: 'sum-2' and 'other'"
    )
    assert "'3' and '4'" in two_truths


def test_sets_that_are_held_out_and_trained_on_are_told(patient: Patient) -> None:
    set_of = '[problems.NAME]\nsource = "NAME.jsonl"\ncolumns = { question = "q", answer = "a", id = "id" }\n'
    text = patient.recipe.read_text(encoding="utf-8").replace("steps = 3\n", 'steps = 3\nprobe = "test"\n', 1)
    text += set_of.replace("NAME", "test") + '[eval]\nproblems = ["test"]\nmax_new_tokens = 8\n'
    patient.recipe.write_text(text, encoding="utf-8")
    fresh = [{"id": f"test-{n}", "q": f"What is {n} + 7?", "a": str(n + 7)} for n in range(3)]
    write(patient.folder / "test.jsonl", [{**ROWS[0], "id": "leak"}, *fresh])
    leaked, probed, chosen = patient.warnings()
    assert leaked.startswith("eval: 1 questions of 'test' are in problems.sums too, such as 'what is 0 + 1?'")
    assert probed.startswith("stages.zero.probe: 1 questions of 'test' are in problems.sums too")
    assert chosen.startswith("stages.zero.probe: 'test' is eval (test) itself: after a choice by the probe")
    write(patient.folder / "test.jsonl", fresh)
    patient.edit('probe = "test"\n', "")
    assert patient.warnings() == []
    assert found(patient, "held out") == "no question of evaluations and probes is trained on"
    patient.edit('["test"]', '["sums"]')
    [itself] = patient.warnings()
    assert itself.startswith("eval: 'sums' is problems.sums itself, which is trained on")


def test_a_run_notes_warnings_and_goes_on(patient: Patient) -> None:
    patient.write_rows([*ROWS, {**ROWS[0], "id": "again"}])
    context = open_run(patient.recipe)
    notes: list[str] = []
    context.progress.note = notes.append  # type: ignore[method-assign]
    refuse_faults(context)
    assert len(notes) == 1
    assert "'sum-0' and 'again'" in notes[0]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"kind": "Math"}, "`kind` is 'Math': there is no such kind; did you mean `math`?"),
        ({"kind": None}, "`kind` is None: there is no such kind; known here: math, choice,"),
        ({"language": 3}, "`language` must be text, not 3"),
        ({"tests": "x"}, "`tests` must be a list, not 'x'"),
        ({"ground_truth": "2 \ud83d"}, "`ground_truth` holds '\\ud83d' at character 3"),
        ({"ground_truth": None}, "a math problem needs an answer"),
    ],
)
def test_own_records_with_a_value_of_the_wrong_kind_are_named(
    patient: Patient,
    row: dict[str, Any],
    says: str,
) -> None:
    patient.edit('columns = { question = "q", answer = "a", id = "id" }\n', "")
    good = {"id": 7, "kind": "math", "messages": TURN, "ground_truth": 2, "tests": None, "metadata": None}
    patient.write_rows([good])
    assert patient.faults() == []
    patient.write_rows([good, {**good, "id": "bad", "messages": [{"role": "user", "content": "Hm?"}], **row}])
    [fault] = patient.faults()
    assert "sums.jsonl:2: " in fault
    assert says in fault


def test_problems_that_a_stage_would_refuse_or_never_pay_are_named(patient: Patient) -> None:
    patient.edit('columns = { question = "q", answer = "a", id = "id" }\n', "")
    judged = {"id": "j", "kind": "judged", "messages": TURN, "reference": "2"}
    general = {"id": "g", "kind": "general", "messages": [{"role": "user", "content": "Hello"}]}
    patient.write_rows([judged])
    assert "is graded by a judge, and none is configured" in patient.faults()[0]
    patient.write_rows([general])
    faults = patient.faults()
    assert len(faults) == 2
    assert (
        "none of its rewards (accuracy) is for problems of kind general, such as 'g' of 'sums'" in faults[0]
    )
    patient.edit("rewards = { accuracy = 1.0 }", "rewards = { accuracy = 1.0, format = 1.0 }")
    assert patient.faults() == []
    idle, few = patient.warnings()[:2]
    assert idle.startswith("stages.zero.rewards.accuracy applies to none of the stage's problems")
    assert few.startswith("stages.zero: problems_per_step = 2, but its sets have only 1 problems")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return [1.0]", "returned 1 values for 4 rollouts"),
        ("return 1.0", "returned 1.0; return a list"),
        ("return (0.5 for _ in rollouts)", "returned a generator; return a list"),
        ("return [float('nan')] * len(rollouts)", "returned nan for rollout 0"),
        ("return [rollouts] * len(rollouts)", "returned a list for rollout 0"),
        ("return [wait() for _ in rollouts]", "returned something to be awaited"),
        ("return rollouts[9]", "raised IndexError: list index out of range ("),
    ],
)
def test_an_own_reward_is_called_once_and_what_it_gives_is_looked_at(
    patient: Patient,
    body: str,
    says: str,
) -> None:
    text = f"async def wait():\n    return 0.5\ndef score(rollouts):\n    {body}\n"
    (patient.folder / "mine.py").write_text(text, encoding="utf-8")
    patient.edit("rewards = { accuracy = 1.0 }", 'rewards = { accuracy = 1.0, "mine.py:score" = 1.0 }')
    first, second = patient.faults()
    assert first.startswith("stages.zero.rewards: reward `mine.py:score` ")
    assert second.startswith("stages.dev2.rewards: reward `mine.py:score` ")
    assert says in first
    assert not list(patient.folder.glob("out/**/failed_reward*"))
