"""How much a stage does, counted by hand for a small recipe."""

import math
from pathlib import Path

import pytest

from r1kit.pipeline.planning.observed import Observed
from r1kit.pipeline.planning.work import (
    Grading,
    Piece,
    Reading,
    Sampling,
    Start,
    Sync,
    Updates,
    count_work,
    decoding_steps,
    longest,
    num_probes,
    totals,
)
from tests.pipeline.planning.recipes import RECIPE, guesses, job_of, make_context


def pieces_of(
    folder: Path, name: str, recipe: str = RECIPE, *, ranks: int = 1, **known: object
) -> list[Piece]:
    context = make_context(folder, recipe)
    return count_work(job_of(context, name), context.recipe, guesses(context, **known), ranks=ranks)


def test_a_grpo_stage_by_hand(tmp_path: Path) -> None:
    start, first, second, updates, sync, probe = pieces_of(tmp_path, "zero")
    assert start == Start(2)  # the policy and the reference of the KL term
    # 4 steps of 3 problems x 4 samples of 30 / 3 tokens; a quarter of the groups is sampled again
    assert first == Sampling(12, 3, 128, 10, 30, times=4)
    assert second == Sampling(3, 0.75, 128, 10, 30, times=4)
    assert isinstance(updates, Updates)
    # 3.75 groups, three quarters of them useful, x 4 samples = 11.25 rows a step, in 2 mini-batches
    assert (updates.rows, updates.prompts) == (5.625, 2.8125)
    assert updates.times == 4 * 2 * 3
    assert updates.tokens_per_update == 5.625 * 10 + 2.8125 * 128
    # the reference in each update; old logprobs in one of the 6 updates of a step: the second's first
    assert updates.forwards == pytest.approx(1 + 1 / 6)
    assert sync == Sync(4)
    # before step 1, after steps 3 and 4: 8 of the 10 problems
    assert probe == Sampling(8, 8, 128, 10, 30, times=3)


def test_without_kl_one_epoch_and_one_mini_batch_there_is_no_pass_beside_the_update(tmp_path: Path) -> None:
    recipe = RECIPE.replace("kl_coef = 0.001", "kl_coef = 0.0\nmax_resample_waves = 0")
    recipe = recipe.replace("mini_batches = 2", "mini_batches = 1").replace("inner_epochs = 3", "")
    start, first, updates, *_ = pieces_of(tmp_path, "zero", recipe)
    assert start == Start(1)
    assert isinstance(first, Sampling)
    assert isinstance(updates, Updates)
    assert (updates.times, updates.rows, updates.forwards) == (4, 3 * 0.75 * 4, 0)


@pytest.mark.parametrize(("steps", "every", "probes"), [(4, 3, 3), (6, 3, 3), (2, 5, 2), (1, 1, 2)])
def test_probes_come_first_at_their_interval_and_last(
    steps: int, every: int, probes: int, tmp_path: Path
) -> None:
    recipe = RECIPE.replace("steps = 4", f"steps = {steps}").replace(
        "eval_every = 3", f"eval_every = {every}"
    )
    assert num_probes(job_of(make_context(tmp_path, recipe), "zero").config) == probes


def test_reward_models_read_completions_from_the_step_that_pays_for_them(tmp_path: Path) -> None:
    recipe = RECIPE.replace("steps = 4\n", 'steps = 4\nreward_models = { helpful = "helpful" }\n') + (
        "\n[[stages.zero.mixture]]\nfrom_step = 3\nshares = { sums = 1.0, talk = 3.0 }\n"
        "\n[[stages.zero.reward_schedule]]\nfrom_step = 3\nweights = { accuracy = 1.0, helpful = 1.0 }\n"
    )
    recipe = recipe.replace('model = "zero"', 'model = "base"')
    found = [piece for piece in pieces_of(tmp_path, "zero", recipe) if isinstance(piece, Reading)]
    # steps 3 and 4, 12 completions each, of which three quarters are answers to general prompts
    assert found == [Reading(18, 128 + 10, 30 + 128)]


def test_rejection_sampling_asks_half_of_the_problems_again(tmp_path: Path) -> None:
    pieces = pieces_of(tmp_path, "samples")
    assert pieces == [
        Start(1),
        Sampling(50, 10, 128, 20, 60),
        Sampling(25, 5, 128, 20, 60),
        Grading(75),
    ]
    logged = {"samples": Observed(lengths=(33.0,), again_frac=0.2)}
    _, _, again, graded = pieces_of(tmp_path, "samples", earlier=logged)
    assert again == Sampling(10, 2, 128, 33, 60)
    assert graded == Grading(60)


def test_sft_trains_on_half_of_what_its_source_could_keep(tmp_path: Path) -> None:
    start, updates = pieces_of(tmp_path, "sft")
    assert start == Start(1)
    assert isinstance(updates, Updates)
    # 10 problems x (3 + 1) / 2 kept, half of it: 10 examples of 128 + 20 tokens: 1,480, 3 batches of 500
    assert updates.times == 3 * 3
    assert updates.rows == pytest.approx(10 / 3)
    assert (updates.tokens, updates.limit) == (148, 128 + 60)


def test_a_reward_model_holds_out_a_tenth_and_reads_both_sides(tmp_path: Path) -> None:
    _, updates, held_out = pieces_of(tmp_path, "helpful")
    assert isinstance(updates, Updates)
    # 20 prompts x 2 pairs, half of them kept: 20, 18 of them trained on in 3 batches of 6
    assert (updates.times, updates.rows) == (3, 12)
    assert held_out == Reading(4, 128 + 10, 158)


def test_an_evaluation_asks_each_set_its_number_of_samples(tmp_path: Path) -> None:
    start, sampled, graded = pieces_of(tmp_path, "eval/sft")
    assert start == Start(1)
    assert sampled == Sampling(10 * 8 + 20 * 2, 30, 128, 30, 90, truncates=True)
    assert graded == Grading(120)


def test_with_ranks_data_stages_sample_in_rounds(tmp_path: Path) -> None:
    # 120 completions; a round is 4 fills of 16 rows on each of 2 ranks, 128; with 10 rows, 80
    (sampled,) = [p for p in pieces_of(tmp_path, "eval/sft", ranks=2) if isinstance(p, Sampling)]
    assert (sampled.times, sampled.completions) == (1, 120)
    recipe = RECIPE.replace("max_rows = 16", "max_rows = 10")
    (sampled,) = [p for p in pieces_of(tmp_path, "eval/sft", recipe, ranks=2) if isinstance(p, Sampling)]
    assert (sampled.times, sampled.completions, sampled.prompts) == (2, 60, 15)


def test_a_grpo_stage_under_way_counts_the_steps_that_are_left(tmp_path: Path) -> None:
    work = tmp_path / "out" / ".work" / "zero"
    work.mkdir(parents=True)
    row = '{"step": %d, "completion/length_mean": 21.0, "groups/trained": 2, "groups/sampled": 4}\n'
    (work / "metrics.jsonl").write_text('{"step": 0}\n' + "".join(row % step for step in (1, 2, 3)))
    own = {"zero": Observed(lengths=(21.0, 21.0, 21.0), constant_frac=0.5)}
    _, first, _, updates, sync, probe = pieces_of(tmp_path, "zero", own=own)
    assert first == Sampling(12, 3, 128, 21, 30, times=1)
    assert isinstance(updates, Updates)
    assert (updates.times, updates.rows) == (6, 3 * 1.5 * 0.5 * 4 / 2)
    assert sync == Sync(1)
    assert isinstance(probe, Sampling)
    assert probe.times == 3 / 4


def test_the_longest_of_many_and_the_steps_until_it_is_finished() -> None:
    assert longest(1, 10, 1000) == 10  # ln 1 + 0.577 is below the mean itself
    assert longest(100, 10, 1000) == pytest.approx(10 * (math.log(100) + 0.5772))
    assert longest(100, 10, 50) == 50
    # as many rows as completions: all wait for the longest; with a quarter of them three fills come before it
    assert decoding_steps(100, 100, 10, 50) == 50
    assert decoding_steps(100, 25, 10, 50) == 3 * 10 + 50
    assert decoding_steps(10, 100, 10, 20) == 20


def test_totals_and_lengths(tmp_path: Path) -> None:
    pieces = pieces_of(tmp_path, "zero")
    found = totals(pieces)
    assert found["completions"] == 4 * 15 + 3 * 8
    assert found["sampled_tokens"] == 840
    assert found["updates"] == 24
    assert pieces[1].at_length(2) == Sampling(12, 3, 128, 20, 30, times=4)
    assert pieces[1].at_length(100) == Sampling(12, 3, 128, 30, 30, times=4)
    assert Grading(5).at_length(7) == Grading(5)
