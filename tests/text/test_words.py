import random

import pytest

from r1kit.text import words as words_module
from r1kit.text.words import words


def _counts(text: str) -> list[tuple[str, int]]:
    return [(word.text, word.num_words) for word in words(text) if word.num_words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't add well-known sums.", ["Don't", "add", "well", "known", "sums"]),
        ("l'eau et été", ["l'eau", "et", "été"]),
        ("so 12 + 7 = 19, 3x and 5cm", ["so", "and"]),
        ("let x be a, then y", ["let", "be", "then"]),
        ("x1 and a_2 in my_list", ["and", "in"]),
        ("f(x) or sin(y) via np.sum", ["or", "via"]),
        ("the camelCase name", ["the", "name"]),
        ("see `code here` now", ["see", "now"]),
        ("```python\nfor all of it\n``` done", ["done"]),
        ("a formula $x + yz$ and \\(ab\\) or \\[cd\\] end", ["formula", "and", "or", "end"]),
        ("it costs $5 and then $6 more", ["it", "costs", "and", "then", "more"]),
        ("\\frac{1}{2} of it", ["of", "it"]),
        ("$5\\text{ apples}$ left", ["apples", "left"]),
        ("go to https://example.com/some/page or me@example.com", ["go", "to", "or"]),
        ("<think> we add </think> <|user|>", ["we", "add"]),
        ("if a <b and c> d then", ["if", "and", "then"]),
        ("и в доме", ["и", "в", "доме"]),
        ("angle α plus βγ", ["angle", "plus", "βγ"]),
        ("", []),
        ("12 + 7 = 19 ... !?", []),
    ],
)
def test_what_is_a_word_in_scripts_with_spaces(text: str, expected: list[str]) -> None:
    assert _counts(text) == [(word, 1) for word in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我们把7和12相加", [("我们把", 2), ("和", 1), ("相加", 1)]),
        ("答案是51。", [("答案是", 2)]),
        ("東京大学で研究する", [("東京大学で研究する", 5)]),
        ("カレーライス", [("カレーライス", 3)]),
        ("두 수를 더하면", [("두", 1), ("수를", 1), ("더하면", 1)]),
        ("ภาษาไทย", [("ภาษาไทย", 3)]),  # 7 base letters, and 3 letters make a word
    ],
)
def test_runs_without_spaces_count_by_length(text: str, expected: list[tuple[str, int]]) -> None:
    assert _counts(text) == expected


def test_the_fast_tokens_of_english_and_chinese_are_the_general_ones() -> None:
    alphabet = [
        "the",
        "sum",
        "aB",
        "x",
        "f",
        "(",
        ")",
        ".",
        ",",
        " ",
        "1",
        "_",
        "'",
        "我们",
        "和",
        "。",
        "，",
        "A",
        "is",
        "\n",
    ]
    rng = random.Random(0)
    for _ in range(4000):
        text = "".join(rng.choices(alphabet, k=rng.randint(1, 12)))
        assert words_module._IS_PLAIN.fullmatch(text)
        plain = words(text)
        general = [
            word
            for word in map(words_module._classified, words_module._TOKEN.findall(text))
            if word is not None
        ]
        assert plain == general, text


@pytest.mark.parametrize(
    "text",
    ["`" * 50_001, "$" * 50_001, "a(" * 50_000, "<a" * 50_000, "\\(" * 50_000, "a." * 50_000, "é'" * 50_000],
)
def test_hostile_texts_are_split_in_bounded_time(text: str) -> None:
    assert sum(word.num_words for word in words(text)) <= len(text)
