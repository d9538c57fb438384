"""Reading the log's lines: the quick way and the whole parse agree, and odd lines go the whole way."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1kit.ui.rollouts.lines import LineReader
from tests.ui.rollouts.made_log import encode, make_row


def test_a_line_as_the_log_writes_it_is_read_without_parsing_all_of_it() -> None:
    reader = LineReader("chat")
    first = reader.read(encode([make_row(3, 2, 0, advantage=None, num_tokens=5)]))
    second = reader.read(encode([make_row(3, 2, 1, accuracy=0.0, finish_reason="length", num_tokens=0)]))
    assert reader.num_quick == 2
    assert (first.step, first.group, first.sample, first.num_tokens, first.advantage) == (3, 2, 0, 5, None)
    assert (second.sample, second.num_tokens, second.is_truncated, second.advantage) == (1, 0, True, 0.5)
    assert dict(first.reward.parts) == {"accuracy": 1.0, "format": 1.0}
    assert (first.reward.total, second.reward.total, first.problem_set) == (2.0, 1.0, "reasoning")
    # one problem for the group, with the text of its turns
    assert (first.problem, second.problem, len(reader.problems)) == (0, 0, 1)
    assert reader.problems[0].prompt == "What is 6 + 2?"


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.update(seed=row.pop("seed")),  # another order of keys
        lambda row: row.update(note="a later version has more"),
        lambda row: row["completion"].update(entropies=[0.1]),
        lambda row: row["problem"].update(metadata={"a": {"b": 1}, "step": 9, "group": 9, "sample": 9}),
    ],
)
def test_a_line_that_looks_otherwise_is_parsed_as_a_whole(change: Any) -> None:
    row = make_row(1, 4, 3)
    change(row)
    reader, whole = LineReader("chat"), LineReader("chat")
    line = reader.read(encode([row]))
    assert (line.group, line.sample, line.num_tokens) == (4, 3, 4)
    assert line == whole.whole(encode([row]))


HOSTILE = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            '", "finish_reason": "stop", "weights_version": 0}, "reward": {"parts": {}}',
            '], "text": "',
            '\\", \\"finish_reason\\": \\"',
            "\\",
            '"',
            "]",
            '}, "step": 7, "group": 1, "sample": ',
            "\u2028\x00\x1b[31m",
            "𝔘 再",
            "\\u0041",
            '{"problem": ',
        ]
    ),
)


@settings(max_examples=150, deadline=None)
@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_no_text_misleads_the_quick_reader(text: str, question: str, key: str, problem_set: str) -> None:
    problem = {
        "messages": [{"role": "user", "content": question}],
        "metadata": {key: {key: question, "x": [1, [2]]}},
        "tests": [{"step": 1}],
    }
    rows = [make_row(1, 0, i, text + str(i), problem=problem, problem_set=problem_set) for i in range(3)]
    quick, whole = LineReader("chat"), LineReader("chat")
    for row in rows:
        raw = encode([row])
        line = quick.read(raw)
        assert line == whole.whole(raw)
        assert line.text.decode() == row["completion"]["text"]
        assert line.problem_set == problem_set


def test_malformed_is_what_the_format_reward_says_and_else_what_the_parser_says() -> None:
    reader = LineReader("chat")
    lines = [
        make_row(parts={"accuracy": 1.0, "format": 0.0}),
        make_row(parts={"accuracy": 1.0, "format": 1.0}, text="no tags"),
        make_row(parts={"accuracy": 1.0}, text="no tags"),
        make_row(parts={"accuracy": 1.0}),
        make_row(parts={"accuracy": 1.0}, finish_reason="length"),
        make_row(parts={}, text="hello", problem={"wants_reasoning": False}),
    ]
    found = [reader.read(encode([line])).is_malformed for line in lines]
    assert found == [True, False, True, False, True, False]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"problem": {"id": "a"\n', "delimiter"),
        (b"[1, 2]\n", "expected an object, not list"),
        (b'{"step": 1}\n', "without `completion`"),
        (b"\xff\xfe\n", "decode"),
        (json.dumps(make_row() | {"step": -1}).encode(), "no count: -1"),
        (json.dumps(make_row() | {"reward": {"parts": {"a": "x"}}}).encode(), "no number: 'x'"),
    ],
)
def test_what_is_wrong_with_a_damaged_line_is_said(raw: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LineReader("chat").read(raw)


def test_a_missing_reward_is_no_zero_and_a_missing_total_is_summed() -> None:
    row = make_row(parts={"accuracy": None, "format": 1.0})
    line = LineReader("chat").read(encode([row]))
    assert (dict(line.reward.parts)["accuracy"], line.reward.total) == (None, None)
    old = make_row(parts={"accuracy": 1.0, "format": 0.5})
    old["reward"]["weights"]["format"] = 2.0
    del old["reward"]["total"]
    assert LineReader("chat").read(encode([old])).reward.total == 2.0
