"""The parser decides what is paid for, so it is attacked here from every side."""

import pytest

from r1kit.template import ZERO_TEMPLATE, format_chat, format_zero, parse_response, render_zero

REASONING, ANSWER = "45 + 6 = 51", "51"
ZERO = format_zero(REASONING, ANSWER)
CHAT = format_chat(REASONING, "The answer is 51.")


def test_the_zero_prompt_is_table_1_to_the_letter() -> None:
    assert render_zero("How many") == ZERO_TEMPLATE.replace("{question}", "How many")
    assert render_zero("How many").endswith("<answer> answer here </answer>. User: How many. Assistant:")


@pytest.mark.parametrize("mark", [".", "?", "!", "。", "？", "！"])
def test_closing_punctuation_is_not_doubled(mark: str) -> None:
    assert render_zero(f" How many{mark} ").endswith(f"User: How many{mark} Assistant:")


def test_a_question_with_braces_or_the_placeholder_is_left_alone() -> None:
    assert "User: What is {question}. Assistant:" in render_zero("What is {question}")
    assert "User: Is {x. y}. Assistant:" in render_zero("Is {x. y}")


def test_what_is_formatted_is_parsed_back() -> None:
    zero, chat = parse_response(ZERO, "zero"), parse_response(CHAT, "chat")
    assert (zero.well_formed, zero.reasoning, zero.summary) == (True, REASONING, ANSWER)
    assert (chat.well_formed, chat.reasoning, chat.summary) == (True, REASONING, "The answer is 51.")
    assert parse_response(format_chat(None, "Hello!"), "chat", reasoning_required=False).summary == "Hello!"


@pytest.mark.parametrize(
    "text",
    [
        ZERO + " and more",
        ZERO + ZERO,
        ZERO + " <answer> 52 </answer>",
        "So: " + ZERO,
        "<think> a </think> in between <answer> 51 </answer>",
        "<think> </think> <answer> 51 </answer>",
        "<think> \u200b\ufeff </think> <answer> 51 </answer>",
        "<think> a </think> <answer> </answer>",
        "<think> a </think> <answer> \u200b </answer>",
        "<think> a <think> b </think> </think> <answer> 51 </answer>",
        "<think> a </think> <answer> <answer> 51 </answer> </answer>",
        "<think> a <answer> 51 </answer> </think>",
        "<think> a <answer> 50 </answer> </think> <answer> 51 </answer>",
        "<answer> 51 </answer> <think> a </think>",
        "<think> a </think> <answer> 51",
        "<think> a <answer> 51 </answer>",
        "<answer> 51 </answer>",
        "<Think> a </Think> <Answer> 51 </Answer>",
        "＜think＞ a ＜/think＞ ＜answer＞ 51 ＜/answer＞",
        "<think > a </think > <answer > 51 </answer >",
        "<think> a </think> <answer> 51 </answer> <|user|> Next?",
        "<think> a </think> <answer> 51 <|assistant|> </answer>",
        "51",
        "",
    ],
)
def test_a_zero_response_of_any_other_shape_is_malformed_and_has_no_answer(text: str) -> None:
    response = parse_response(text, "zero")
    assert not response.well_formed
    assert response.summary is None


@pytest.mark.parametrize(
    "text",
    [
        CHAT + "</think>",
        CHAT + "<think> more </think> 52",
        "Hm. " + CHAT,
        "<think>\n\n</think>\n\n51",
        "<think>\u200b</think>\n\n51",
        "<think>a</think>",
        "<think>a</think>\n\u200b",
        "<think>a",
        "a</think> 51",
        "<think>a</think> <answer>51</answer>",
        "51",
        CHAT + "<|user|>And 2 + 2?<|assistant|><think>4</think>4",
        CHAT + "<｜User｜>And 2 + 2?",
        "",
    ],
)
def test_a_chat_response_of_any_other_shape_is_malformed_and_has_no_summary(text: str) -> None:
    response = parse_response(text, "chat")
    assert not response.well_formed
    assert response.summary is None


def test_without_required_reasoning_tags_must_still_be_whole() -> None:
    assert parse_response(CHAT, "chat", reasoning_required=False).reasoning == REASONING
    assert not parse_response("<think>a", "chat", reasoning_required=False).well_formed
    assert not parse_response("</think> hello", "chat", reasoning_required=False).well_formed
    assert not parse_response(" \u200b ", "chat", reasoning_required=False).well_formed


def test_a_zero_response_always_needs_its_reasoning() -> None:
    assert not parse_response("hello", "zero", reasoning_required=False).well_formed


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("<think> a b", "a b"),
        ("<think> a <answer> 51 </answer>", "a"),
        ("x <think> a </think> y <think> b </think>", "a"),
        ("<think> a <think> b </think>", "a"),
        ("<think> a <|user|> b", "a"),
        ("<think></think> b", None),
        ("no tags", None),
    ],
)
def test_of_a_malformed_response_the_first_reasoning_is_kept(text: str, reasoning: str | None) -> None:
    assert parse_response(text, "zero").reasoning == reasoning


def test_less_than_signs_and_pipes_in_mathematics_are_no_markers() -> None:
    assert parse_response(format_zero("a < b and |x| > 1, a <b| c", "x"), "zero").well_formed


def test_a_very_long_text_of_tags_is_read_in_no_time() -> None:
    assert not parse_response("<think>" * 50_000, "zero").well_formed
