"""The parser decides what is paid for, so it is attacked here from every side."""

import itertools

import pytest

from r1kit.text.template import (
    ZERO_TEMPLATE,
    after_opening,
    as_chat,
    closes_thought,
    explain_format,
    format_chat,
    format_zero,
    opening_of,
    parse_response,
    render_zero,
    reopened,
    whole_response,
)

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


@pytest.mark.parametrize(
    ("prompt", "opening", "closed"),
    [
        ("<|assistant|><think>\n", "<think>\n", False),
        ("<|assistant|>\n<think>", "<think>", False),
        ("<|assistant|><think>\n\n</think>\n\n", "", True),
        ("<|assistant|><think></think>", "", True),
        ("What does <think> mean?<|assistant|>", "", False),
        ("<think>\nonce\n</think>\n\n2<|user|>again<|assistant|>", "", False),
        ("<|assistant|>", "", False),
    ],
)
def test_a_prompt_may_open_the_thought_or_close_it(prompt: str, opening: str, closed: bool) -> None:
    assert (opening_of(prompt), closes_thought(prompt)) == (opening, closed)


def test_what_the_prompt_opened_belongs_to_the_response() -> None:
    text = whole_response("<think>\n", f"{REASONING}\n</think>\n\nThe answer is 51.")
    assert text == CHAT
    cut = parse_response(whole_response("<think>\n", REASONING), "chat")
    assert (cut.reasoning, cut.summary, cut.well_formed) == (REASONING, None, False)
    # opened once more by the model itself: twice
    assert not parse_response(whole_response("<think>\n", CHAT), "chat").well_formed
    # closed at once: no reasoning, which is right where none is wanted
    silent = whole_response("<think>\n", "\n</think>\n\nHello!")
    assert silent == "Hello!"
    assert parse_response(silent, "chat", reasoning_required=False).well_formed
    assert not parse_response(silent, "chat").well_formed
    assert whole_response("", "2") == "2"


@pytest.mark.parametrize("opening", ["<think>\n", "<think>"])
@pytest.mark.parametrize("response", [CHAT, format_chat("a <b> c", "d"), "<think>x</think>y"])
def test_an_opening_is_taken_off_and_put_back(opening: str, response: str) -> None:
    again = whole_response(opening, after_opening(opening, response))
    assert parse_response(again, "chat") == parse_response(response, "chat")
    assert again.count("<think>") == 1
    assert after_opening("", response) == response


def test_a_response_without_reasoning_closes_the_thought_that_the_prompt_opened() -> None:
    assert after_opening("<think>\n", "Hello!") == "\n</think>\n\nHello!"
    assert whole_response("<think>\n", after_opening("<think>\n", "Hello!")) == "Hello!"
    assert after_opening("<think>\n", "b\n</think>\n\n2") == "b\n</think>\n\n2"


def test_a_reply_that_began_in_the_prompt_is_opened_again() -> None:
    assert parse_response(reopened("a\n</think>\n\n51"), "chat").summary == "51"
    assert parse_response(reopened("a </think> <answer> 51 </answer>"), "zero").summary == "51"
    for text in (CHAT, ZERO, "51", "<answer> 51 </answer>"):
        assert reopened(text) == text


def test_a_zero_response_can_be_read_as_a_chat() -> None:
    assert as_chat(ZERO, "zero") == format_chat(REASONING, ANSWER)
    assert as_chat("<answer> 51 </answer>", "zero") == "<answer> 51 </answer>"
    assert as_chat(ZERO, "chat") == ZERO


@pytest.mark.parametrize(
    "marker", ["<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<|im_start|>", "<｜User｜>"]
)
def test_markers_of_turns_are_known_in_the_writing_of_every_family(marker: str) -> None:
    assert not parse_response(f"<think>a</think>51 {marker} Next?", "chat").well_formed


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (ZERO, None),
        (
            "51",
            "It has none of the tags; the format is <think> reasoning </think> <answer> answer </answer>.",
        ),
        (" \u200b", "It is empty; the format is <think> reasoning </think> <answer> answer </answer>."),
        ("<think> a </think> 51", "<answer> is missing."),
        ("<think> a <answer> 51 </answer>", "</think> is missing."),
        ("<think> a </think> <answer> 51", "</answer> is missing."),
        (ZERO + " <answer> 52 </answer>", "<answer> comes 2 times; it may come once."),
        ("<answer> 51 </answer> <think> a </think>", "<answer> comes before <think>."),
        ("<think> a <answer> 51 </answer> </think>", "<answer> comes before </think>."),
        ("So: " + ZERO, "Text before <think>, where none belongs: 'So:'."),
        (
            "<think> a </think> so <answer> 51 </answer>",
            "Text between </think> and <answer>, where none belongs: 'so'.",
        ),
        (ZERO + " and\nmore", "Text after </answer>, where none belongs: 'and more'."),
        (ZERO + "x" * 50, f"Text after </answer>, where none belongs: '{'x' * 40}…'."),
        (
            "<think> \u200b </think> <answer> 51 </answer>",
            "The reasoning is empty: nothing visible follows <think>.",
        ),
        ("<think> a </think> <answer> </answer>", "The answer is empty: nothing visible follows <answer>."),
        (ZERO + "<|user|>", "After '<|user|>', a turn marker, the model would be talking to itself."),
    ],
)
def test_which_rule_a_zero_response_breaks_is_said(text: str, sentence: str | None) -> None:
    assert explain_format(text, "zero") == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (CHAT, None),
        ("51", "It has none of the tags; the format is <think> reasoning </think> summary."),
        ("<think>a", "</think> is missing."),
        ("a</think> 51", "<think> is missing."),
        ("Hm. " + CHAT, "Text before <think>, where none belongs: 'Hm.'."),
        ("<think>a</think>", "The summary is empty: nothing visible follows </think>."),
        ("<think></think> 51", "The reasoning is empty: nothing visible follows <think>."),
        (
            "<think>a</think> <answer>51</answer>",
            "<answer> does not belong into the chat format, where the summary has no tags.",
        ),
    ],
)
def test_which_rule_a_chat_response_breaks_is_said(text: str, sentence: str | None) -> None:
    assert explain_format(text, "chat") == sentence


def test_a_completion_that_was_cut_off_is_malformed_however_it_reads() -> None:
    assert explain_format(ZERO, "zero", cut_off=True) == (
        "It was cut off at its last allowed token, before the model ended it."
    )
    assert explain_format("<think> a", "chat", cut_off=True) == (
        "</think> is missing; it was cut off at its last allowed token, before the model ended it."
    )


def test_a_sentence_is_there_exactly_where_the_parser_finds_a_fault() -> None:
    pieces = ["<think>", "</think>", "<answer>", "</answer>", " a ", "\u200b", "<|user|>"]
    for num in range(6):
        for parts in itertools.product(pieces, repeat=num):
            text = "".join(parts)
            for style, required in (("zero", True), ("chat", True), ("chat", False)):
                fine = parse_response(text, style, reasoning_required=required).well_formed  # type: ignore[arg-type]
                assert (explain_format(text, style, reasoning_required=required) is None) == fine, text  # type: ignore[arg-type]
    for filled in itertools.product(["", " a "], repeat=5):
        tags = ["<think>", "</think>", "<answer>", "</answer>", ""]
        text = "".join(itertools.chain.from_iterable(zip(filled, tags, strict=True)))
        assert (explain_format(text, "zero") is None) == parse_response(text, "zero").well_formed, text
