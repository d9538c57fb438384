"""What a plan takes for granted, from the best source that there is; and what an earlier run tells."""

import json
from pathlib import Path

import pytest

from r1kit.errors import DataError
from r1kit.pipeline.manifest import Key, Manifest, write_manifest
from r1kit.pipeline.planning.assumptions import PROMPT_TOKENS, Assumptions, Examples, Length
from r1kit.pipeline.planning.observed import (
    Observed,
    observed_json,
    observed_of,
    read_observed,
    shipped_observed,
)
from r1kit.pipeline.recipe import load_recipe
from r1kit.pipeline.shipped import find_recipe
from tests.pipeline.planning.recipes import RECIPE, guesses, job_of, make_context


def finish(folder: Path, name: str, kind: str, **metrics: float) -> Path:
    """A finished stage's folder, with these metrics in its manifest."""
    place = folder / name
    place.mkdir(parents=True)
    write_manifest(place, Manifest(name, kind, Key({}, {}, {}), finished="now", metrics=metrics))
    return place


def test_lengths_are_a_third_of_the_limit_until_something_better_is_known(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    zero = job_of(context, "zero")
    assert guesses(context).length_with_source(zero) == Length(10, "guessed")
    earlier = guesses(context, earlier={"zero": Observed(lengths=(4.0, 8.0))}, earlier_name="a run")
    # 4 steps: the last one that was logged stands for the rest
    assert earlier.length_with_source(zero) == Length((4 + 8 + 8 + 8) / 4, "earlier run", "a run")
    own = guesses(context, own={"zero": Observed(lengths=(6.0,))}, earlier={"zero": Observed(lengths=(4.0,))})
    assert own.length_with_source(zero).source == "logged"


def test_lengths_that_were_sampled_say_of_which_model(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    assumed, zero, samples = guesses(context), job_of(context, "zero"), job_of(context, "samples")
    assumed.sampled[assumed.length_key(zero)] = 12.0
    assumed.sampled[assumed.length_key(samples)] = 13.0
    assert assumed.length_with_source(zero).source == "sampled"
    # zero is not made yet: what was sampled is the base
    assert assumed.length_with_source(samples).source == "sampled from its ancestor"
    (tmp_path / "out" / "zero" / "model").mkdir(parents=True)
    assert assumed.length_key(samples).path == str(tmp_path / "out" / "zero" / "model")


def test_problems_and_prompts_are_the_recipes_own(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    assumed = Assumptions(context)
    assert assumed.num_problems(["sums", "talk", "sums"]) == 30
    assert 60 < assumed.prompt_tokens(job_of(context, "zero"), ["sums"]) < 200
    assert len(assumed.some_problems("talk", 5)) == 5
    assert guesses(context).prompt_tokens(job_of(context, "zero"), ["sums"]) == PROMPT_TOKENS


def test_a_set_that_cannot_be_read_is_said_and_counted_by_the_recipe(tmp_path: Path) -> None:
    context = make_context(tmp_path, settings=["problems.sums={source='none.jsonl', num_problems=77}"])
    assumed = Assumptions(context)
    assert assumed.num_problems(["sums"]) == 77
    (note,) = assumed.notes
    assert note.startswith("problems.sums can't be read (")
    assert note.endswith("): its size is the recipe's.")


def test_examples_are_counted_where_the_data_is_there(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    place = finish(tmp_path / "out", "samples", "rejection", records=2)
    row = {"messages": [{"role": "user", "content": "1 + 1?"}], "response": "<think>\n2\n</think>\n\n2"}
    (place / "data.jsonl").write_text(f"{json.dumps(row)}\n" * 2, encoding="utf-8")
    examples = Assumptions(context).examples(job_of(context, "sft"))
    assert (examples.num, examples.source) == (2, "counted")
    assert 5 < examples.tokens < 30
    # what is not there yet: 10 problems x (3 + 1) / 2, half of them; 128 + 20 tokens, at most 128 + 60
    (place / "data.jsonl").unlink()
    assumed = guesses(context)
    assert assumed.examples(job_of(context, "sft")) == Examples(10, 148, 188, "half of the most")
    (note,) = assumed.notes
    assert (
        note == "samples is not made yet: half of what it could write at most is taken for its records (10)."
    )


def test_an_earlier_run_is_read_from_its_folder_and_written_as_lines(tmp_path: Path) -> None:
    context, out = make_context(tmp_path), tmp_path / "out"
    zero = finish(out, "zero", "grpo")
    rows = [
        {"step": 0, "eval/held_out_accuracy": 0.1},
        {"step": 1, "completion/length_mean": 20.0, "groups/sampled": 4.0, "groups/trained": 3.0},
        {"step": 2, "completion/length_mean": 30.0, "groups/sampled": 4.0, "groups/trained": 2.0},
    ]
    (zero / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    samples = finish(out, "samples", "rejection", records=7, mean_tokens=41.0)
    log = [
        {"name": json.dumps(["reasoning", problem, sample]), "token_ids": [1] * length}
        for problem, sample, length in (("a", 0, 5), ("a", 4, 7), ("b", 0, 9), ("a", 5, 11))
    ]
    (samples / "samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in log), encoding="utf-8")
    finish(out, "sft", "sft", examples=7, tokens=3 * 7 * 60)
    found = read_observed(out, context.recipe)
    assert found == {
        "zero": Observed(lengths=(20.0, 30.0), constant_frac=0.375),
        # rounds of 5 samples: of a and b only a was asked again
        "samples": Observed(lengths=(8.0,), examples=7, example_tokens=41.0, again_frac=0.5),
        "sft": Observed(examples=7, example_tokens=60.0),
    }
    assert json.loads(observed_json(found))["sft"] == {"examples": 7, "example_tokens": 60.0}
    assumed = guesses(context, earlier=found)
    assert assumed.constant_frac(job_of(context, "zero")) == 0.375
    assert assumed.examples(job_of(context, "sft")) == Examples(7, 60.0, 60, "earlier run")


def test_a_folder_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    with pytest.raises(DataError, match=r"^--like .*nowhere: no such folder; name the folder of a run"):
        observed_of(tmp_path / "nowhere", context.recipe)
    with pytest.raises(DataError, match="no stage of this recipe has logged anything there"):
        observed_of(tmp_path, context.recipe)


def test_what_is_kept_of_the_demo_is_of_its_stages() -> None:
    recipe, found = load_recipe(find_recipe("demo")), shipped_observed("demo")
    jobs = {*recipe.stages, *(f"eval/{name}" for name in ("base", "zero", "dev1", "dev2", "dev3", "r1"))}
    assert found.keys() == jobs
    for name in ("zero", "dev2", "r1"):
        assert len(found[name].lengths) == recipe.stages[name].steps, "log it again: docs/planning.md"
    assert shipped_observed("none") == {}


def test_steps_without_a_useful_group_do_not_tell_how_many_are_useful(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    row = {"step": 1, "completion/length_mean": 20.0, "groups/sampled": 4.0, "groups/trained": 0.0}
    zero = tmp_path / "earlier" / ".work" / "zero"
    zero.mkdir(parents=True)
    (zero / "metrics.jsonl").write_text(f"{json.dumps(row)}\n", encoding="utf-8")
    found = observed_of(tmp_path / "earlier", context.recipe)
    assert found["zero"] == Observed(lengths=(20.0,), constant_frac=None)
    earlier = guesses(context, earlier=found, earlier_name="a run")
    assert earlier.constant_frac(job_of(context, "zero")) == 0.25


def test_a_set_that_is_not_read_has_as_many_problems_as_its_file_has_rows(tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n' * 7, encoding="utf-8")
    made = 'source = "tinyworld"\nsplit = "train"\nnum_problems = 10\n'
    recipe = RECIPE.replace(made, 'source = "sums.jsonl"\n')
    assumed = guesses(make_context(tmp_path, recipe))
    assumed.reads_problems = False
    assert assumed.num_problems(["sums"]) == 7
    assert not assumed.notes
