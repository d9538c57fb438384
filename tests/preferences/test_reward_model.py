import json
import math
from pathlib import Path

import peft
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import logsigmoid

from r1kit.errors import DataError, ModelError
from r1kit.evaluate.statistics import calibration_error
from r1kit.model.loading import load_tokenizer
from r1kit.model.scorers import load_reward_model
from r1kit.preferences.reward_model import (
    RewardModelConfig,
    load_examples,
    plan_batches,
    run_reward_model,
    score_rows,
)
from r1kit.rewards.model_rewards import (
    RewardModelReward,
    RewardScale,
    encode_for_reward_model,
    read_scale,
    scale_of,
)
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.training.metrics_log import read_metrics
from r1kit.types import Problem
from tests.bounds import assert_same, relative_error
from tests.data_stages import stage_context
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def ask(i: int) -> list[dict]:
    return [{"role": "user", "content": f"Prompt number {i}?"}]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pairs(num: int) -> list[dict]:
    """A plain preference: the kind answer over the rude one."""
    return [{"messages": ask(i), "chosen": f"Gladly, {i}.", "rejected": f"No, {i}."} for i in range(num)]


def labels(num: int) -> list[dict]:
    texts = ["<think>\nA rope helps.\n</think>\n\nNo, {}.", "<think>\nRefuse it.\n</think>\n\nNo, {}."]
    return [{"messages": ask(i), "response": texts[i % 2].format(i), "safe": bool(i % 2)} for i in range(num)]


def config(data: str, objective: str = "pairwise", **more) -> RewardModelConfig:
    defaults = {"epochs": 3, "examples_per_batch": 16, "optimizer": {"learning_rate": 3e-3}}
    return RewardModelConfig(objective=objective, model="dev3", data=data, **(defaults | more))


def test_a_helpful_model_learns_the_preference_and_reads_the_summary_only(base, tmp_path) -> None:
    data = write(tmp_path / "pairs.jsonl", pairs(120))
    context = stage_context(tmp_path / "work", base, {})
    summary = run_reward_model(context, config(data, held_out_frac=0.2))
    assert 10 <= summary["held_out_examples"] <= 40
    assert summary["examples"] + summary["held_out_examples"] == 120
    assert summary["held_out/accuracy"] > 0.95
    assert read_metrics(tmp_path / "work")[-1]["held_out/accuracy"] == summary["held_out/accuracy"]
    reward = RewardModelReward("helpful", tmp_path / "work" / "model", view="summary")
    problem = Problem(id="x", kind="general", messages=tuple(ask(999)))
    thoughts = ("Hm.", "A rude, very long thought with No, no, no.")
    kind, same = reward.score_texts([(problem, f"<think>\n{t}\n</think>\n\nGladly, 9.") for t in thoughts])
    rude, nothing = reward.score_texts(
        [(problem, "<think>\nHm.\n</think>\n\nNo, 9."), (problem, "Gladly, 9.")]
    )
    assert kind == same
    assert kind > rude > nothing == 0.0


def test_a_safety_model_reads_the_reasoning_too(base, tmp_path) -> None:
    data = write(tmp_path / "labels.jsonl", labels(120))
    context = stage_context(tmp_path / "work", base, {})
    summary = run_reward_model(context, config(data, "pointwise", held_out_frac=0.2))
    assert summary["held_out/accuracy"] > 0.95
    reward = RewardModelReward("safety", tmp_path / "work" / "model", view="response")
    problem = Problem(id="x", kind="safety", messages=tuple(ask(999)))
    harmful, harmless = reward.score_texts(
        [(problem, f"<think>\n{t}\n</think>\n\nNo, 9.") for t in ("A rope helps.", "Refuse it.")]
    )
    assert harmless > 0.5 > harmful


def test_calibration_is_reported_and_is_that_of_the_models_own_probabilities(base, tmp_path) -> None:
    data = write(tmp_path / "labels.jsonl", labels(60))
    stage = config(data, "pointwise", held_out_frac=0.4, epochs=1)
    context = stage_context(tmp_path / "work", base, {})
    summary = run_reward_model(context, stage)
    error = summary["held_out/calibration_error"]
    assert read_metrics(tmp_path / "work")[-1]["held_out/calibration_error"] == error
    assert any("calibration error" in note for note in context.progress.notes)
    model, tokenizer = load_reward_model(str(tmp_path / "work" / "model")), load_tokenizer(str(base))
    examples = load_examples(Path(data), tokenizer, stage, max_tokens=1000)
    held_out = [example for example in examples if example.held_out]
    with torch.no_grad():
        logits = [float(score_rows(model, e.rows, tokenizer.pad_token_id)) for e in held_out]
    probabilities = [1 / (1 + math.exp(-logit)) for logit in logits]
    expected = calibration_error(probabilities, [e.label for e in held_out])
    assert error == pytest.approx(expected, abs=relative_error(model))
    assert 0 <= error <= 1


@pytest.mark.numerical
def test_a_pairwise_models_scores_are_scaled_by_its_reference_set(base, tmp_path) -> None:
    data = write(tmp_path / "pairs.jsonl", pairs(40))
    stage = config(data, held_out_frac=0.4)
    run_reward_model(stage_context(tmp_path / "work", base, {}), stage)
    folder = tmp_path / "work" / "model"
    model, tokenizer = load_reward_model(str(folder)), load_tokenizer(str(base))
    examples = load_examples(Path(data), tokenizer, stage, max_tokens=1000)
    rows = [ids for example in examples if example.held_out for ids in example.rows]
    with torch.no_grad():
        logits = score_rows(model, rows, tokenizer.pad_token_id)
    scale, bound = read_scale(folder), 10 * relative_error(model)  # of logits up to 10
    assert scale.mean == pytest.approx(float(logits.mean()), abs=bound)
    assert scale.std == pytest.approx(float(logits.std(correction=0)), abs=bound)
    problem = Problem(id="x", kind="general", messages=tuple(ask(999)), wants_reasoning=False)
    [score] = RewardModelReward("helpful", folder, view="summary").score_texts([(problem, "Gladly, 9.")])
    ids = encode_for_reward_model(problem, "Gladly, 9.", tokenizer, "summary")
    with torch.no_grad():
        logit = float(score_rows(model, [ids], tokenizer.pad_token_id))
    assert score == pytest.approx(
        1 / (1 + math.exp(-(logit - scale.mean) / scale.std)), abs=bound / scale.std
    )


def test_a_pointwise_models_scores_are_its_probabilities(base, tmp_path) -> None:
    data = write(tmp_path / "labels.jsonl", labels(40))
    run_reward_model(stage_context(tmp_path / "work", base, {}), config(data, "pointwise", held_out_frac=0.4))
    assert read_scale(tmp_path / "work" / "model") == RewardScale(0.0, 1.0, "response")


def test_the_scale_of_a_reference_set() -> None:
    # mean 2, squares 1 + 1 over 2
    assert scale_of([1.0, 3.0]) == RewardScale(2.0, 1.0)
    assert scale_of([5.0, 5.0]) == RewardScale(5.0, 1.0)


def test_a_scale_that_can_not_be_read_is_an_error(tmp_path) -> None:
    (tmp_path / "reward_scale.json").write_text('{"mean": 1}')
    with pytest.raises(ModelError, match="train the model again"):
        read_scale(tmp_path)
    (tmp_path / "reward_scale.json").write_text('{"mean": 1, "std": 0}')
    with pytest.raises(ModelError, match="std must be positive"):
        read_scale(tmp_path)


def test_harm_in_the_reasoning_reaches_the_safety_models_input_and_not_the_helpful_ones(base) -> None:
    tokenizer = load_tokenizer(str(base))
    problem = Problem(id="x", kind="safety", messages=tuple(ask(1)))
    text = "<think>\nA rope helps.\n</think>\n\nNo, 9."
    clean = text.replace("A rope helps.", "Refuse it.")
    safety = [encode_for_reward_model(problem, t, tokenizer, "response") for t in (text, clean)]
    helpful = [encode_for_reward_model(problem, t, tokenizer, "summary") for t in (text, clean)]
    assert "A rope helps." in tokenizer.decode(safety[0])
    assert safety[0] != safety[1]
    assert "rope" not in tokenizer.decode(helpful[0])
    assert helpful[0] == helpful[1]


@pytest.mark.numerical
def test_the_loss_does_not_depend_on_micro_batches(base, tmp_path) -> None:
    data = write(tmp_path / "pairs.jsonl", pairs(20))
    rows = []
    for i, tokens in enumerate((100, 10_000)):
        context = stage_context(tmp_path / str(i), base, {})
        stage = config(
            data, epochs=1, examples_per_batch=20, held_out_frac=0.0, tokens_per_micro_batch=tokens
        )
        run_reward_model(context, stage)
        rows.append(read_metrics(tmp_path / str(i))[0])
    error = relative_error(load_reward_model(str(base)))
    for name in ("loss", "grad_norm"):
        assert rows[0][name] == pytest.approx(rows[1][name], rel=error)


@pytest.mark.numerical
def test_the_first_loss_is_that_of_the_untrained_scores(base, tmp_path) -> None:
    data = write(tmp_path / "pairs.jsonl", pairs(6))
    stage = config(data, epochs=1, examples_per_batch=6, held_out_frac=0.0)
    context = stage_context(tmp_path / "work", base, {})
    run_reward_model(context, stage)
    model = load_reward_model(str(base), seed=derive_seed(0, "stage", "head"))
    tokenizer = load_tokenizer(str(base))
    examples = load_examples(Path(data), tokenizer, stage, max_tokens=1000)
    losses = []
    with torch.no_grad():
        for example in examples:
            chosen, rejected = score_rows(model, example.rows, tokenizer.pad_token_id)
            losses.append(-float(logsigmoid(chosen - rejected)))
    assert read_metrics(tmp_path / "work")[0]["loss"] == pytest.approx(
        math.fsum(losses) / 6, abs=relative_error(model)
    )


def test_a_margin_drives_scores_further_apart_where_the_judgments_differ_more(base, tmp_path) -> None:
    rows = [{**row, "difference": 2.0} for row in pairs(80)]
    data = write(tmp_path / "pairs.jsonl", rows)
    apart = []
    for margin in (0.0, 4.0):
        context = stage_context(tmp_path / f"margin-{margin}", base, {})
        summary = run_reward_model(context, config(data, margin=margin, held_out_frac=0.2))
        assert summary["held_out/accuracy"] > 0.95
        apart.append(summary["held_out/difference"])
    assert apart[1] > apart[0] + 1.0  # 8 is asked for


@pytest.mark.numerical
def test_the_first_loss_with_a_margin_is_that_of_the_scores_less_margin_times_difference(
    base, tmp_path
) -> None:
    data = write(tmp_path / "pairs.jsonl", [{**row, "difference": i} for i, row in enumerate(pairs(4))])
    stage = config(data, epochs=1, examples_per_batch=4, held_out_frac=0.0, margin=0.5)
    run_reward_model(stage_context(tmp_path / "work", base, {}), stage)
    model = load_reward_model(str(base), seed=derive_seed(0, "stage", "head"))
    tokenizer = load_tokenizer(str(base))
    losses = []
    with torch.no_grad():
        for i, example in enumerate(load_examples(Path(data), tokenizer, stage, max_tokens=1000)):
            chosen, rejected = score_rows(model, example.rows, tokenizer.pad_token_id)
            losses.append(-float(logsigmoid(chosen - rejected - 0.5 * i)))  # 0, 0.5, 1 and 1.5 apart
    assert read_metrics(tmp_path / "work")[0]["loss"] == pytest.approx(
        math.fsum(losses) / 4, abs=relative_error(model)
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [({}, "no `difference`, which a margin"), ({"difference": -1}, "a number of 0 or more, not -1")],
)
def test_a_margin_needs_the_judgments_difference(base, tmp_path, more, message) -> None:
    data = write(tmp_path / "pairs.jsonl", [{**row, **more} for row in pairs(1)])
    with pytest.raises(DataError, match=rf"pairs\.jsonl:1: .*{message}"):
        run_reward_model(stage_context(tmp_path / "work", base, {}), config(data, margin=1.0))
    with pytest.raises(ValidationError, match="`margin` is for pairs"):
        config(data, "pointwise", margin=1.0)


class StopAt(Exception):
    pass


@pytest.mark.numerical
def test_with_lora_the_head_is_trained_whole_and_kept_with_the_adapter(base, tmp_path) -> None:
    data = write(tmp_path / "pairs.jsonl", pairs(80))
    context = stage_context(tmp_path / "work", base, {})
    stage = config(data, lora={"rank": 4, "alpha": 8}, optimizer={"learning_rate": 1e-2})
    summary = run_reward_model(context, stage)
    assert summary["held_out/accuracy"] > 0.9
    seed = derive_seed(context.seed, context.name, "head")
    start = load_reward_model(str(base), seed=seed)
    trained = load_reward_model(str(tmp_path / "work" / "model"))
    changed = {n for n, p in start.named_parameters() if not torch.equal(p, trained.get_parameter(n))}
    linear = {n for n, _ in start.named_parameters() if n.endswith("_proj.weight")}
    assert changed == {"score.weight", *linear}
    adapter = peft.PeftModel.from_pretrained(start, tmp_path / "work" / "adapter").eval()
    ids = torch.arange(20, 40)[None]
    assert_same(adapter(input_ids=ids).logits, trained(input_ids=ids).logits, trained)


@pytest.mark.parametrize("lora", [None, {"rank": 4, "dropout": 0.2}])
def test_a_killed_stage_goes_on_to_the_same_weights(base, tmp_path, lora) -> None:
    data = write(tmp_path / "pairs.jsonl", pairs(60))
    stage = config(data, checkpoint_every=2, lora=lora)

    def run(name: str, stop_at: int | None = None) -> StageContext:
        context = stage_context(tmp_path / name, base, {})

        def step(done: int, row) -> None:
            if done == stop_at:
                raise StopAt

        context.progress.step = step
        run_reward_model(context, stage)
        return context

    run("whole")
    with pytest.raises(StopAt):
        run("killed", stop_at=5)
    run("killed")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]

    def timeless(name: str) -> list[dict]:
        rows = read_metrics(tmp_path / name)
        return [{key: value for key, value in row.items() if "second" not in key} for row in rows]

    assert timeless("whole") == timeless("killed")


def test_a_prompts_examples_are_all_held_out_or_all_trained_on(base, tmp_path) -> None:
    rows = [row for row in pairs(40) for _ in range(3)]
    path = Path(write(tmp_path / "pairs.jsonl", rows))
    stage = config(str(path), held_out_frac=0.3)
    examples = load_examples(path, load_tokenizer(str(base)), stage, max_tokens=1000)
    sides = [{example.held_out for example in examples[i : i + 3]} for i in range(0, 120, 3)]
    assert all(len(side) == 1 for side in sides)
    assert {True, False} == set().union(*sides)


def test_of_a_text_that_is_too_long_the_end_is_read(base, tmp_path) -> None:
    path = Path(write(tmp_path / "pairs.jsonl", pairs(1)))
    tokenizer = load_tokenizer(str(base))
    [whole] = load_examples(path, tokenizer, config(str(path)), max_tokens=1000)
    [cut] = load_examples(path, tokenizer, config(str(path)), max_tokens=7)
    assert cut.rows == tuple(row[-7:] for row in whole.rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": ask(1), "chosen": "a"}, "no `rejected`"),
        ({"messages": ask(1), "chosen": "a", "rejected": 3}, "rejected must be text"),
        ({"messages": ask(1), "chosen": "a", "rejected": "<think>\nx\n</think>"}, "contains nothing"),
        ({"messages": [], "chosen": "a", "rejected": "b"}, "messages must be a non-empty list"),
    ],
)
def test_a_record_that_can_not_be_used_is_named_with_file_and_line(base, tmp_path, row, message) -> None:
    data = write(tmp_path / "pairs.jsonl", [*pairs(1), row])
    with pytest.raises(DataError, match=rf"pairs\.jsonl:2: .*{message}"):
        run_reward_model(stage_context(tmp_path / "work", base, {}), config(data))


def test_labels_need_to_say_whether_they_are_safe(base, tmp_path) -> None:
    for row, message in [
        ({"messages": ask(1), "response": "x"}, "no `safe`"),
        ({"messages": ask(1), "response": "x", "safe": "yes"}, "safe must be true or false"),
    ]:
        data = write(tmp_path / "labels.jsonl", [row])
        with pytest.raises(DataError, match=rf"labels\.jsonl:1: {message}"):
            run_reward_model(stage_context(tmp_path / "work", base, {}), config(data, "pointwise"))


def test_batches_are_permutations_of_all_examples_as_even_as_can_be() -> None:
    batches = plan_batches(10, epochs=2, examples_per_batch=4, seed=0)
    # 10 / 4 rounds to 2 batches of 5
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    assert sorted(batches[0] + batches[1]) == sorted(batches[2] + batches[3]) == list(range(10))
    assert batches[0] != batches[2]
    assert batches == plan_batches(10, epochs=2, examples_per_batch=4, seed=0)
    assert batches != plan_batches(10, epochs=2, examples_per_batch=4, seed=1)
