"""A whole evaluation of a tiny random model: files, reproducibility, and going on after a kill."""

import json
from contextlib import closing
from dataclasses import replace

import pytest

from r1kit.errors import DataError
from r1kit.evaluate.graded import read_generations
from r1kit.evaluate.run import EvalConfig, evaluate_model
from r1kit.judges.opening import open_judge
from r1kit.sampling import logged
from r1kit.stage import SilentProgress
from r1kit.tinyworld.general import make_general
from r1kit.tinyworld.problems import make_problems
from r1kit.types import Problem
from tests.data_stages import stage_context
from tests.judges.chat_server import chat_server
from tests.tiny_models import tiny_model

CONFIG = EvalConfig(
    samples=4, general_samples=2, max_new_tokens=12, num_bootstrap=100, languages=["en", "zh"]
)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return str(tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def problem_sets():
    return {
        "held_out": make_problems("held_out", 6, seed=1),
        "general": make_general("held_out", 5, seed=1),
    }


def run(model_path, problem_sets, work_dir, config=CONFIG, **options):
    options = {"style": "zero", "seed": 3, "dtype": "float32", "device": "cpu", "max_rows": 64, **options}
    return evaluate_model(model_path, problem_sets, config, work_dir=work_dir, **options)


def test_every_sample_is_kept_with_its_verdicts(model_path, problem_sets, tmp_path):
    summary = run(model_path, problem_sets, tmp_path)
    samples = read_generations(tmp_path)
    assert len(samples) == 6 * 4 + 5 * 2
    assert [s.problem_id for s in samples[:24:4]] == [p.id for p in problem_sets["held_out"]]
    assert all(s.correct is not None for s in samples)
    assert summary["reasoning"]["num_samples"] == 24
    assert summary["reasoning"]["pass@1"]["num_problems"] == 6
    assert summary["general"]["num_problems"] == 5
    assert summary["num_tokens"] == sum(s.num_tokens for s in samples)
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8")) == summary
    assert not (tmp_path / "completions.jsonl").exists()


def test_the_same_seed_gives_the_same_samples_and_another_gives_others(model_path, problem_sets, tmp_path):
    sets = {"held_out": problem_sets["held_out"][:2]}
    texts = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run(model_path, sets, tmp_path / name, seed=seed)
        texts.append([s.text for s in read_generations(tmp_path / name)])
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


class Killed(SilentProgress):
    """Dies when the first results are in."""

    def step(self, done, row):
        raise KeyboardInterrupt


def test_a_killed_evaluation_goes_on_and_samples_nothing_twice(
    model_path, problem_sets, tmp_path, monkeypatch
):
    sets = {"held_out": problem_sets["held_out"]}
    whole = run(model_path, sets, tmp_path / "whole", max_rows=4)
    with pytest.raises(KeyboardInterrupt):
        run(model_path, sets, tmp_path / "killed", max_rows=4, progress=Killed())
    kept = len((tmp_path / "killed" / "completions.jsonl").read_text(encoding="utf-8").splitlines())
    assert 0 < kept < 24
    asked = []
    open_engine = logged.open_engine

    def counting(spec, tokenizer):
        engine = open_engine(spec, tokenizer)
        submit = engine.submit
        engine.submit = lambda request: (asked.append(request.key), submit(request))
        return engine

    monkeypatch.setattr(logged, "open_engine", counting)
    again = run(model_path, sets, tmp_path / "killed", max_rows=4)
    assert len(asked) == 24 - kept
    assert read_generations(tmp_path / "killed") == read_generations(tmp_path / "whole")
    assert again["reasoning"] == whole["reasoning"]


def test_one_killed_after_its_last_write_is_not_sampled_again_and_another_one_is(
    model_path, problem_sets, tmp_path, monkeypatch
):
    sets = {"held_out": problem_sets["held_out"]}
    summary = run(model_path, sets, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(logged, "open_engine", None)  # would fail
        assert run(model_path, sets, tmp_path) == summary
    fewer = {"held_out": problem_sets["held_out"][:3]}
    assert run(model_path, fewer, tmp_path)["reasoning"]["num_samples"] == 12


def test_a_log_of_another_request_is_not_taken_up(model_path, problem_sets, tmp_path):
    sets = {"held_out": problem_sets["held_out"]}
    with pytest.raises(KeyboardInterrupt):
        run(model_path, sets, tmp_path, max_rows=4, progress=Killed(), seed=9)
    run(model_path, sets, tmp_path, max_rows=4)
    run(model_path, sets, tmp_path / "fresh", max_rows=4)
    assert read_generations(tmp_path) == read_generations(tmp_path / "fresh")


def test_nothing_to_evaluate_and_double_ids_are_refused(model_path, problem_sets, tmp_path):
    with pytest.raises(DataError, match="nothing to evaluate"):
        run(model_path, {"held_out": []}, tmp_path)
    twice = [problem_sets["held_out"][0]] * 2
    with pytest.raises(DataError, match="twice"):
        run(model_path, {"held_out": twice}, tmp_path)


def test_the_recipes_judge_grades_what_is_ours_to_ask_and_is_asked_once(model_path, tmp_path):
    own = [
        Problem(id=f"own {i}", kind="safety", messages=({"role": "user", "content": f"Wish {i}?"},))
        for i in range(3)
    ]

    def answer(body):
        safe = "Wish 1" not in body["messages"][-1]["content"]
        return json.dumps({"analysis": "read", "safe": safe})

    with chat_server(answer) as server:
        judge = {"base_url": server.url, "model": "judge"}
        config = EvalConfig.model_validate({**CONFIG.model_dump(), "judge": judge})
        for place in ("first", "again"):  # sampled again, to the same texts
            context = replace(stage_context(tmp_path / place, model_path, {}), replies_dir=tmp_path)
            with closing(open_judge(config.judge, context)) as judge:
                summary = run(model_path, {"own": own}, tmp_path / place, config, judge=judge)
            counted = {name: summary[f"judge/{name}"] for name in ("asked", "cached", "missing")}
            num_different = len({s.text + s.question for s in read_generations(tmp_path / place)})
            if place == "first":
                num_asked = len(server.requests)
                assert counted == {"asked": num_asked, "cached": 0, "missing": 0}
            else:
                assert counted == {"asked": 0, "cached": num_asked, "missing": 0}
        assert len(server.requests) == num_asked == num_different
    verdicts = {s.problem_id: s.correct for s in read_generations(tmp_path / "again")}
    assert {name for name, correct in verdicts.items() if correct} <= {"own 0", "own 2"}
    assert verdicts["own 1"] is False
