import json
from pathlib import Path

import pytest

from r1kit.cold_start import ColdStartConfig, run_cold_start
from r1kit.cold_start.candidates import Candidate, read_reply
from r1kit.cold_start.rewrite import rewrite_by_rules
from r1kit.data.jsonl import read_jsonl
from r1kit.errors import DataError, RecipeError, StageHalted
from r1kit.judges.chat_client import ChatReply
from r1kit.model.loading import load_tokenizer
from r1kit.rewards.accuracy import is_correct
from r1kit.text.template import format_chat, parse_response
from r1kit.types import Problem, Response
from r1kit.verify.answers import extract_answer
from tests.data_stages import Script, math_problem, stage_context
from tests.judges.chat_server import chat_server
from tests.reviewing import begin, decide, ids_of
from tests.tiny_models import tiny_model

GOOD = "We add the numbers step by step. Twelve and seven make nineteen, and we check that it holds."
EN = math_problem(1, "What is 12 + 7?", "19")
ZH = math_problem(2, "12 加 7 等于多少？", "19", "zh")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def zero(reasoning: str, answer: str = "19") -> str:
    return f" <think> {reasoning} </think> <answer> {answer} </answer>"


def config(**more) -> ColdStartConfig:
    source = {"kind": "samples", "model": "zero", "problems": "set", "samples_per_problem": 8}
    source |= {"max_new_tokens": 400, **more.pop("source", {})}
    return ColdStartConfig(sources=[source], **{"min_tokens": 5, **more})


def rows(path: Path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


def counts(folder: Path) -> dict:
    return json.loads((folder / "counts.json").read_text())["sources"]


# one sample for every filter, in their order, and then good ones
SAMPLES = [
    "no tags at all",
    zero(GOOD, "20"),
    zero("我们一步一步来算，十二加七等于十九，检查一下没有问题。"),
    zero("We add twelve and seven to get nineteen as a result. " * 4),
    zero("Nineteen it is."),
    zero(GOOD),
    zero(GOOD.upper()),
    zero("First I count up from twelve by seven. That gives nineteen in the end, which is right."),
]


def test_every_filter_counts_what_it_drops_and_the_good_are_kept(base, tmp_path, monkeypatch) -> None:
    Script(monkeypatch, lambda prompt, number: SAMPLES[number])
    context = stage_context(tmp_path, base, {"set": [EN]})
    summary = run_cold_start(context, config(min_tokens=20))
    assert counts(tmp_path)["samples from zero"] == {
        "sampled": 8,
        "malformed": 1,
        "wrong": 1,
        "mixed_language": 1,
        "repetitive": 1,
        "length": 1,
        "duplicate": 1,
        "surplus": 0,
        "rewrite": 0,
        "kept": 2,
    }
    assert summary["records"] == summary["records/en"] == 2
    records = rows(tmp_path / "data.jsonl")
    assert {record["source"] for record in records} == {"samples from zero"}
    for record in records:
        response = parse_response(record["response"], "chat")
        assert response.well_formed
        assert is_correct(EN, extract_answer(response, EN) or "")
        assert (record["style"], record["language"], record["problem_id"]) == ("chat", "en", "p1")
    assert "sampled" in context.progress.notes[-1]


def test_what_the_filters_dropped_is_kept_with_the_reason(base, tmp_path, monkeypatch) -> None:
    Script(monkeypatch, lambda prompt, number: SAMPLES[number])
    run_cold_start(stage_context(tmp_path, base, {"set": [EN]}), config(min_tokens=20, keep_per_problem=1))
    dropped = rows(tmp_path / "dropped.jsonl")
    reasons = {row["filter"]: row["reason"] for row in dropped}
    table = counts(tmp_path)["samples from zero"]
    assert sum(table.values()) - table["sampled"] - table["kept"] == len(dropped) == 7
    assert reasons["malformed"] == "not reasoning in its tags and then a summary"
    assert reasons["wrong"] == "the answer is not right: it says '20'; the ground truth is '19'"
    assert "0% of its" in reasons["mixed_language"]
    assert "95% of 3 or more are asked for" in reasons["mixed_language"]
    assert "at most 20% may" in reasons["repetitive"]
    assert "20 to 8192 are asked for" in reasons["length"]
    assert reasons["surplus"].endswith("1 of a problem are, those that differ most")
    texts = {row["filter"]: row["text"] for row in dropped}
    assert texts["malformed"] == "no tags at all"
    assert parse_response(texts["wrong"], "chat") == Response(GOOD, "20", True)
    assert {(row["source"], row["problem_id"], row["question"], row["language"]) for row in dropped} == {
        ("samples from zero", "p1", "What is 12 + 7?", "en")
    }
    first = (tmp_path / "dropped.jsonl").read_bytes()
    run_cold_start(stage_context(tmp_path, base, {"set": [EN]}), config(min_tokens=20, keep_per_problem=1))
    assert (tmp_path / "dropped.jsonl").read_bytes() == first


def test_few_of_the_many_dropped_are_kept_and_long_ones_are_cut(base, tmp_path, monkeypatch) -> None:
    long = "word " * 10_000
    Script(monkeypatch, lambda prompt, number: zero(GOOD) if number == 9 else f"{number} {long}")
    source = {"samples_per_problem": 30, "max_new_tokens": 400_000}
    run_cold_start(stage_context(tmp_path, base, {"set": [EN]}), config(source=source))
    dropped = rows(tmp_path / "dropped.jsonl")
    logged = {json.loads(row["name"])[2]: row["text"] for row in rows(tmp_path / "samples.jsonl")}
    first = [text for _, text in sorted(logged.items()) if text.endswith(long)][:20]
    assert [row["text"] for row in dropped] == [text[:20_000] for text in first]
    assert [row["num_chars"] for row in dropped] == [len(text) for text in first]


def test_a_model_that_chats_is_asked_and_read_as_a_chat(base, tmp_path, monkeypatch) -> None:
    script = Script(monkeypatch, lambda prompt, number: f"<think>\n{GOOD} {number}\n</think>\n\nIt is 19.")
    context = stage_context(tmp_path, base, {"set": [EN]})
    run_cold_start(context, config(source={"model": "dev2", "prompt_style": "chat"}))
    assert script.prompts[0] == "<|user|>What is 12 + 7?<|assistant|>"
    assert rows(tmp_path / "data.jsonl")


def test_a_teachers_reply_may_have_begun_in_its_prompt() -> None:
    for content, summary in (
        (f"{GOOD}\n</think>\n\nIt is 19.", "It is 19."),
        (f"{GOOD} </think> <answer> 19 </answer>", "19"),
    ):
        read = read_reply(ChatReply(content, None, "stop"))
        assert (read.reasoning, read.summary, read.well_formed) == (GOOD, summary, True)


def test_a_truncated_sample_is_malformed(base, tmp_path, monkeypatch) -> None:
    Script(monkeypatch, lambda prompt, number: zero(GOOD) if number else zero(GOOD * 9))
    run_cold_start(stage_context(tmp_path, base, {"set": [EN]}), config(source={"samples_per_problem": 2}))
    assert counts(tmp_path)["samples from zero"]["malformed"] == 1
    [dropped] = rows(tmp_path / "dropped.jsonl")
    assert dropped["reason"].endswith(": it was cut off")


def test_few_shot_prompts_are_solved_turns_before_the_problem(base, tmp_path, monkeypatch) -> None:
    examples = tmp_path / "examples.jsonl"
    lines = [
        {"question": "What is 1 + 1?", "reasoning": "One and one.", "answer": "2", "language": "en"},
        {"question": "What is 12 + 7?", "reasoning": "The same problem.", "answer": "19", "language": "en"},
        {"question": "1 加 1？", "reasoning": "一加一。", "answer": "2", "language": "zh"},
    ]
    examples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    script = Script(monkeypatch, lambda prompt, number: zero(GOOD))
    source = {"kind": "few_shot", "model": "base", "examples": str(examples), "num_examples": 1}
    run_cold_start(
        stage_context(tmp_path, base, {"set": [EN]}), config(source=source | {"samples_per_problem": 1})
    )
    [prompt] = script.prompts
    first, second = prompt.split("\nUser: ")
    assert "What is 1 + 1?" in first
    assert first.endswith("<think> One and one. </think> <answer> 2 </answer>")
    assert second == "What is 12 + 7? Assistant:"
    assert "The same problem." not in prompt
    assert "一加一" not in prompt

    too_many = config(source=source | {"num_examples": 2})
    with pytest.raises(DataError, match="2 examples needed, 1 fit problem 'p1'"):
        run_cold_start(stage_context(tmp_path / "2", base, {"set": [EN]}), too_many)


def test_what_a_model_adds_to_few_shot_turns_does_not_count_against_it(base, tmp_path, monkeypatch) -> None:
    examples = tmp_path / "examples.jsonl"
    examples.write_text(json.dumps({"question": "1+1?", "reasoning": "One and one.", "answer": "2"}) + "\n")
    Script(monkeypatch, lambda prompt, number: zero(GOOD) + "\nUser: What is 5? Assistant: <think>")
    source = {"model": "base", "samples_per_problem": 1}
    few_shot = config(source=source | {"kind": "few_shot", "examples": str(examples), "num_examples": 1})
    run_cold_start(stage_context(tmp_path / "1", base, {"set": [EN]}), few_shot)
    assert counts(tmp_path / "1")["few_shot from base"]["kept"] == 1
    alone = config(source=source | {"kind": "samples"})
    with pytest.raises(DataError, match="no sample passed"):
        run_cold_start(stage_context(tmp_path / "2", base, {"set": [EN]}), alone)
    assert counts(tmp_path / "2")["samples from base"]["malformed"] == 1


def test_tinyworld_examples_are_in_the_problems_language_and_never_the_problem_itself(base, tmp_path) -> None:
    from r1kit.cold_start.config import CandidateSource
    from r1kit.cold_start.examples import find_examples
    from r1kit.tinyworld.problems import make_problems

    source = CandidateSource(kind="few_shot", model="base", problems="set", num_examples=2)
    find = find_examples(stage_context(tmp_path, base, {}), source, "x")
    for problem in make_problems("train", 8, seed=1, tiers=("ordinary",), families=("arithmetic", "logic")):
        shown = find(problem)
        assert len(shown) == 2
        assert {example.language for example in shown} == {problem.language}
        assert problem.question not in [example.question for example in shown]
        assert shown == find(problem)


def test_direct_prompts_ask_for_reflection_in_the_questions_language(base, tmp_path, monkeypatch) -> None:
    chinese = "我先算十二加七，得到十九。再检查一下，结果没有问题。"
    script = Script(monkeypatch, lambda prompt, number: zero(chinese if "加" in prompt else GOOD))
    source = {"kind": "direct", "samples_per_problem": 1}
    run_cold_start(stage_context(tmp_path, base, {"set": [EN, ZH]}), config(source=source))
    english, zh = sorted(script.prompts, key=lambda prompt: "加" in prompt)
    assert "What is 12 + 7? Think step by step and check your answer." in english
    assert "12 加 7 等于多少？请一步一步思考并检查答案。" in zh
    # what is trained on is the question alone
    asked = {record["messages"][0]["content"] for record in rows(tmp_path / "data.jsonl")}
    assert asked == {"What is 12 + 7?", "12 加 7 等于多少？"}


def test_a_killed_stage_goes_on_and_samples_nothing_twice(base, tmp_path, monkeypatch) -> None:
    problems = {"set": [math_problem(i, f"What is {i} + 19?", str(i + 19)) for i in range(20)]}

    def write(prompt: str, number: int) -> str:
        first = int(prompt.rsplit("What is ", 1)[1].split(" +")[0])
        return zero(
            f"We add the numbers in a way of our own, number {number}, and then check it.", str(first + 19)
        )

    whole = Script(monkeypatch, write)
    run_cold_start(stage_context(tmp_path / "whole", base, problems), config())
    assert whole.num_sampled == 160

    killed = Script(monkeypatch, write)
    killed.stop_after = 100
    with pytest.raises(KeyboardInterrupt):
        run_cold_start(stage_context(tmp_path / "killed", base, problems), config())
    killed.stop_after = None
    run_cold_start(stage_context(tmp_path / "killed", base, problems), config())
    assert killed.num_sampled == 160
    for name in ("data.jsonl", "counts.json"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_at_most_so_many_of_a_problem_and_those_that_differ_most(base, tmp_path, monkeypatch) -> None:
    other = "Seven more than twelve: I go thirteen, fourteen and so on until nineteen, which fits."
    texts = [GOOD, GOOD.replace("holds", "fits"), GOOD.replace("holds", "works"), other]
    Script(monkeypatch, lambda prompt, number: zero(texts[number]))
    stage = config(source={"samples_per_problem": 4}, keep_per_problem=2)
    run_cold_start(stage_context(tmp_path, base, {"set": [EN]}), stage)
    kept = [record["response"] for record in rows(tmp_path / "data.jsonl")]
    assert len(kept) == 2
    assert any("thirteen" in text for text in kept)
    assert counts(tmp_path)["samples from zero"]["surplus"] == 2


def test_review_stops_the_run_and_goes_on_with_the_edited_file(base, tmp_path, monkeypatch) -> None:
    texts = [GOOD, "First I count up from twelve by seven. That gives nineteen in the end, which is right."]
    script = Script(monkeypatch, lambda prompt, number: zero(texts[number]))
    stage = config(source={"samples_per_problem": 2}, review="required")
    context = stage_context(tmp_path, base, {"set": [EN]})
    with pytest.raises(StageHalted, match=r"2 records wait for review in .*review\.jsonl"):
        run_cold_start(context, stage)
    assert not (tmp_path / "data.jsonl").exists()
    review = tmp_path / "review.jsonl"
    first, second = rows(review)

    def edit(*records: dict) -> None:
        review.write_text("".join(json.dumps(record) + "\n" for record in records))

    edit(first, second | {"response": second["response"].replace("19", "18")})
    with pytest.raises(DataError, match=r"review\.jsonl:2: the summary's answer is not correct"):
        run_cold_start(context, stage)
    edit(first | {"response": "19"}, second)
    with pytest.raises(DataError, match=r"review\.jsonl:1: the response must be <think>"):
        run_cold_start(context, stage)
    edit(first | {"accepted": "perhaps"}, second)
    with pytest.raises(DataError, match=r"review\.jsonl:1: accepted must be true or false"):
        run_cold_start(context, stage)

    better = format_chat("I add seven to twelve, and that makes nineteen.", "The answer is 19.")
    edit(first | {"accepted": False}, second | {"response": better})
    summary = run_cold_start(context, stage)
    assert (summary["records"], summary["dropped_in_review"]) == (1, 1)
    [record] = rows(tmp_path / "data.jsonl")
    assert record["response"] == better
    assert "accepted" not in record
    assert script.num_sampled == 2


def test_a_review_on_the_page_decides_what_is_trained_on(base, tmp_path, monkeypatch) -> None:
    texts = [
        "First I count up from twelve by seven. That gives nineteen in the end, which is right.",
        GOOD,
        "Seven more than twelve: I go on to twenty, and take one away, which leaves nineteen.",
    ]
    script = Script(monkeypatch, lambda prompt, number: zero(texts[number]))
    stage = config(source={"samples_per_problem": 3}, keep_per_problem=3, review="required", languages=["en"])
    context = stage_context(tmp_path, base, {"set": [EN]})
    with pytest.raises(StageHalted):
        run_cold_start(context, stage)
    written = rows(tmp_path / "review.jsonl")
    for row in written:
        review = row["review"]
        assert review["problem"]["ground_truth"] == "19"
        assert review["raw"] in [zero(text) for text in texts]  # as it was sampled
        reasoning = parse_response(row["response"], "chat").reasoning
        tokenizer = load_tokenizer(str(base))
        assert review["num_tokens"] == len(tokenizer.encode(reasoning, add_special_tokens=False))
    log = begin(tmp_path)
    one, two, three = ids_of(tmp_path)
    decide(log, one, "accept")
    with pytest.raises(StageHalted, match="2 of 3 records are still under review"):
        run_cold_start(context, stage)
    mixed = format_chat("J'ajoute sept et douze, et cela fait dix-neuf, bien sûr.", "The answer is 19.")
    decide(log, two, "edit", text=format_chat("I add.", "The answer is 18."))
    decide(log, three, "edit", text=mixed)
    with pytest.raises(DataError) as caught:
        run_cold_start(context, stage)
    assert f"item {two}, decided by Ann: the summary's answer is not correct" in str(caught.value)
    decide(log, two, "reject", reason="hard to read")
    decide(log, three, "edit", text=mixed, override="a French problem")
    summary = run_cold_start(context, stage)
    assert (summary["records"], summary["dropped_in_review"]) == (2, 1)
    assert [record["response"] for record in rows(tmp_path / "data.jsonl")] == [
        written[0]["response"],
        mixed,
    ]
    assert not {"accepted", "review"} & {name for row in rows(tmp_path / "data.jsonl") for name in row}
    origins = rows(tmp_path / "origins.jsonl")
    assert [origin["raw"] for origin in origins] == [written[i]["review"]["raw"] for i in (0, 2)]
    assert log.refresh().closed
    assert script.num_sampled == 3


def test_a_teacher_answers_in_any_of_three_shapes_and_is_not_asked_twice(base, tmp_path) -> None:
    shapes = [
        zero(GOOD),
        f"<think>{GOOD.replace('holds', 'fits')}</think>\n\nThe answer is 19.",
        {
            "content": "It is 19.",
            "reasoning_content": "I add twelve and seven, which makes nineteen, as it should.",
        },
    ]
    numbers = iter(range(100))
    with chat_server(lambda body: shapes[next(numbers)]) as server:
        teacher = {"base_url": server.url, "model": "teacher", "concurrency": 1}
        source = {"kind": "few_shot", "model": teacher, "samples_per_problem": 3, "num_examples": 1}
        stage = config(source=source, keep_per_problem=3)
        for _ in range(2):
            run_cold_start(stage_context(tmp_path, base, {"set": [EN]}), stage)
        assert len(server.requests) == 3
        roles = [message["role"] for message in server.requests[0]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert counts(tmp_path)["few_shot from teacher"]["kept"] == 3


def test_a_teachers_rewriting_is_verified_and_a_wrong_one_dropped(base, tmp_path, monkeypatch) -> None:
    other = "First I count up from twelve by seven. That gives nineteen in the end, which is right."
    Script(monkeypatch, lambda prompt, number: zero([GOOD, other][number]))

    def rewrite(body: dict) -> str:
        asked = body["messages"][-1]["content"]
        assert "in en, the language of the question" in asked
        wrong = "count up" in asked
        return f"<think>Let me add the two numbers with care.</think>\nThat makes {18 if wrong else 19}."

    with chat_server(rewrite) as server:
        stage = config(
            source={"samples_per_problem": 2}, rewrite={"base_url": server.url, "model": "teacher"}
        )
        run_cold_start(stage_context(tmp_path, base, {"set": [EN]}), stage)
    [record] = rows(tmp_path / "data.jsonl")
    assert record["response"] == "<think>\nLet me add the two numbers with care.\n</think>\n\nThat makes 19."
    assert counts(tmp_path)["samples from zero"]["rewrite"] == 1
    [dropped] = rows(tmp_path / "dropped.jsonl")
    assert "after rewriting: the answer is not right (it says '18'; the ground" in dropped["reason"]
    assert dropped["text"].endswith("That makes 18.")


def test_problems_that_rules_can_not_check_are_refused(base, tmp_path) -> None:
    judged = math_problem(1, "Why?", "", kind="judged", reference="Because.")
    with pytest.raises(RecipeError, match="problem 'p1' of 'set' is of kind judged"):
        run_cold_start(stage_context(tmp_path, base, {"set": [judged]}), config())


def test_nothing_that_passes_is_an_error_with_the_counts_on_disk(base, tmp_path, monkeypatch) -> None:
    Script(monkeypatch, lambda prompt, number: "nonsense")
    with pytest.raises(DataError, match="no sample passed the filters"):
        run_cold_start(stage_context(tmp_path, base, {"set": [EN]}), config())
    assert counts(tmp_path)["samples from zero"]["malformed"] == 8


def rewritten(problem: Problem, reasoning: str, answer: str, name: str = "n") -> Response:
    candidate = Candidate(name, problem, "s", Response(reasoning, answer, well_formed=True))
    return rewrite_by_rules(candidate, seed=0)


def test_steps_get_lines_of_their_own_and_numbers_stay_whole() -> None:
    response = rewritten(EN, "Let me see. 1.5 and 2.5 make 4.  Then (i.e. later) done!", "19")
    assert response.reasoning == "Let me see.\n1.5 and 2.5 make 4.\nThen (i.e.\nlater) done!"
    chinese = rewritten(ZH, "我先算一下。12+7=19。好！", "19")
    assert chinese.reasoning == "我先算一下。\n12+7=19。\n好！"


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        (EN, "19"),
        (ZH, "19"),
        (math_problem(3, "Half of 3/2?", r"\frac{3}{4}"), r"\frac{3}{4}"),
        (math_problem(4, "?", "B", kind="choice", metadata={"options": ["12", "15", "A"]}), "B"),
        (math_problem(4, "哪个？", "B", "zh", kind="choice", metadata={"options": ["12", "15"]}), "B"),
        (math_problem(5, "?", "7 12", kind="logic", metadata={"verifier": "multiset"}), "12, 7"),
        (math_problem(5, "？", "7 12", "zh", kind="logic", metadata={"verifier": "multiset"}), "12 7"),
        (
            math_problem(
                6,
                "?",
                "(3+4)*5",
                kind="logic",
                metadata={"verifier": "expression", "numbers": [3, 4, 5], "target": 35},
            ),
            "5*(4+3)",
        ),
        (math_problem(7, "Who?", "Anna", kind="logic", metadata={"choices": ["Anna", "Ben"]}), "Anna"),
        (math_problem(7, "Quel ?", "19", "fr"), "19"),
    ],
)
def test_the_summary_states_the_result_so_that_it_reads_back_as_right(problem: Problem, answer: str) -> None:
    for name in "abcdefgh":  # every wording
        response = rewritten(problem, "x", answer, name)
        read = parse_response(format_chat(response.reasoning, response.summary or ""), "chat")
        assert is_correct(problem, extract_answer(read, problem) or ""), response.summary


def test_openers_vary_and_are_not_put_before_the_first_person() -> None:
    openers = {rewritten(EN, "Twelve and seven.", "19", str(i)).reasoning.split("\n")[0] for i in range(30)}
    assert len(openers) == 3
    assert rewritten(EN, "I add.", "19").reasoning == "I add."
