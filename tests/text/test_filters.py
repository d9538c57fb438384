import pytest

from r1kit.text.filters import (
    Counts,
    content_key,
    format_table,
    has_code_block,
    is_one_language,
    longest_paragraph,
    pick_diverse,
    repeated_frac,
)
from r1kit.types import Problem


def asked(language: str | None, question: str = "What is it?") -> Problem:
    return Problem(id="p", kind="math", messages=({"role": "user", "content": question},), language=language)


@pytest.mark.parametrize(
    ("language", "text", "verdict"),
    [
        ("en", "We add the numbers and check them.", True),
        ("en", "12+7=19", False),  # no words, no language
        ("en", "We add 我们把数字加起来 and check.", False),
        ("zh", "我们把两个数字加起来，12+7=19。", True),
        ("zh", "We add the numbers and check them.", False),
        (None, "We add the numbers and check them.", True),  # the question is English
    ],
)
def test_one_language_means_enough_words_and_nearly_all_of_the_target(language, text, verdict) -> None:
    assert is_one_language(asked(language), text, min_share=0.95, min_words=3) is verdict


def test_repetition_is_the_share_of_ngrams_that_were_there_before() -> None:
    # a b a b a: the pairs ab ba ab ba, of which two are new
    assert repeated_frac("a b a b a", 2) == 0.5
    assert repeated_frac("all words differ here", 2) == 0.0
    assert repeated_frac("short", 2) == 0.0
    # 你 好 你 好: 你好 好你 你好
    assert repeated_frac("你好你好", 2) == pytest.approx(1 / 3)


def test_paragraphs_are_lines_and_code_blocks_are_fences_or_tags() -> None:
    assert longest_paragraph("ab\n abcd  \n\nabc") == 4
    assert longest_paragraph("") == 0
    assert has_code_block("so:\n```python\n1\n```")
    assert has_code_block("<code>x</code>")
    assert not has_code_block("x = 1, about ~~~3")


def test_texts_that_differ_in_space_and_case_only_are_the_same() -> None:
    assert content_key("We add.\n Then stop.") == content_key("we add. then STOP.")
    assert content_key("We add.") != content_key("We add!")


def test_the_most_different_texts_are_picked_and_the_first_is_among_them() -> None:
    texts = ["one two three four", "one two three five", "six seven eight nine", "one two three six"]
    assert pick_diverse(texts, 2) == [0, 2]
    assert pick_diverse(texts, 9) == [0, 1, 2, 3]
    assert pick_diverse(texts, 0) == []


def test_counts_list_every_filter_also_where_it_dropped_nothing() -> None:
    counts = Counts(("short", "wrong"))
    counts.add("a", "sampled", 3)
    counts.add("a", "wrong")
    counts.add("a", "kept", 2)
    assert counts.table() == {"a": {"sampled": 3, "short": 0, "wrong": 1, "kept": 2}}
    with pytest.raises(AssertionError):
        counts.add("a", "unknown")


def test_a_table_is_aligned_for_a_person() -> None:
    table = format_table(("domain", "samples"), [{"domain": "math", "samples": 1234.4}, {"domain": "x"}])
    assert table.splitlines() == ["domain  samples", "math      1,234", "x"]
