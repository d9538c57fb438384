import subprocess
import sys

import pytest

from r1kit.errors import RecipeError
from r1kit.rewards.base import score
from r1kit.rewards.language import LanguageReward
from r1kit.text.language import LanguageShare, detect_language, language_consistency
from r1kit.text.template import format_chat, format_zero
from tests.making import make_problem, make_rollout
from tests.text.held_out_texts import HELD_OUT_ACROSS_SCRIPTS, HELD_OUT_WITHIN_SCRIPT
from tests.text.labelled_texts import ACROSS_SCRIPTS, WITHIN_SCRIPT, Piece, joined, true_share


def _mean_error(texts: list[tuple[str, list[Piece]]]) -> float:
    errors = [
        abs(language_consistency(joined(pieces), target).share - true_share(target, pieces))
        for target, pieces in texts
    ]
    return sum(errors) / len(errors)


def test_the_share_is_within_0_03_of_the_labels_across_scripts() -> None:
    assert _mean_error(ACROSS_SCRIPTS) <= 0.03


def test_the_share_is_within_0_10_of_the_labels_within_a_script() -> None:
    assert _mean_error(WITHIN_SCRIPT) <= 0.10


def test_on_texts_that_the_measure_was_not_made_with_the_errors_are_as_small() -> None:
    # measured: 0.016 and 0.007
    assert _mean_error(HELD_OUT_ACROSS_SCRIPTS) <= 0.03
    assert _mean_error(HELD_OUT_WITHIN_SCRIPT) <= 0.10
    languages = {
        code for _, pieces in HELD_OUT_ACROSS_SCRIPTS + HELD_OUT_WITHIN_SCRIPT for code, _, _ in pieces
    }
    assert len(languages) >= 16
    assert languages >= {"zh", "ja", "th", "ar", "hi", "ru", "el", "ko", "en", "de", "fr", "es"}


def test_the_held_out_texts_are_others() -> None:
    known = {text for _, pieces in ACROSS_SCRIPTS + WITHIN_SCRIPT for _, _, text in pieces}
    fresh = [text for _, pieces in HELD_OUT_ACROSS_SCRIPTS + HELD_OUT_WITHIN_SCRIPT for _, _, text in pieces]
    assert not known & set(fresh)
    assert len(fresh) >= 50


def test_the_labelled_set_has_at_least_eight_languages() -> None:
    assert len({code for _, pieces in ACROSS_SCRIPTS + WITHIN_SCRIPT for code, _, _ in pieces}) >= 8


def test_the_other_half_of_a_mixed_text_is_the_other_languages() -> None:
    text = "First we add 45 and 6. 然后我们检查结果。"
    # first we add and | 然后我们检查结果: 8 characters, 4 words
    assert language_consistency(text, "en", ("en", "zh")) == LanguageShare(0.5, 8)
    assert language_consistency(text, "zh", ("en", "zh")) == LanguageShare(0.5, 8)
    assert language_consistency(text, "ko", ("en", "zh")) == LanguageShare(0.0, 8)


@pytest.mark.parametrize("text", ["", "12 + 7 = 19", "$x$ `let it be` x_1 f(x)", "?!"])
def test_a_text_without_words_is_its_own_case(text: str) -> None:
    assert language_consistency(text, "en") == LanguageShare(share=0.0, num_words=0)


def test_japanese_and_chinese_are_told_apart_by_the_kana_in_a_sentence() -> None:
    text = "東京大学で計算する。我们检查一下这个结果。"
    assert language_consistency("東京大学で計算する。", "ja") == LanguageShare(1.0, 5)
    assert language_consistency("東京大学で計算する。", "zh") == LanguageShare(0.0, 5)
    assert language_consistency("東京大学で計算する。", "zh", ("zh", "en")).share == 0.0
    # 9 characters of Japanese make 5 words, 10 of Chinese 5
    assert language_consistency(text, "ja") == LanguageShare(0.5, 10)
    assert language_consistency(text, "zh") == LanguageShare(0.5, 10)
    assert language_consistency("答えは、東京。東京。", "ja").share == 1.0
    assert language_consistency("今天天气很好。", "ja").share == 0.0
    assert language_consistency("今天天气很好。", "ja", ("ja", "en")).share == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "so we get it",
        "now check",
        "step one is so",
        "Let me verify. Carry the one. Now double it.",
        "Wait, 45+7=52, so no. Hmm... Let's retry: 44+7=51. Great!",
        "Janet's ducks lay sixteen eggs per day. She eats three for breakfast and bakes muffins with four.",
        "Betty saved half her allowance. Natalia sold clips to forty eight friends in April.",
    ],
)
def test_short_english_is_not_taken_for_other_languages(text: str) -> None:
    assert language_consistency(text, "en").share == 1.0


def test_terse_sentences_of_another_language_are_seen_together() -> None:
    assert language_consistency("Nous ajoutons. On trouve sept. Ensuite on multiplie.", "en").share == 0.0


def test_candidates_that_the_recipe_names_are_the_only_ones() -> None:
    french = "Ensuite nous ajoutons les trois pommes que Pierre achète."
    assert language_consistency(french, "en", ("en", "zh")).share == 1.0
    assert language_consistency(french, "en", ("en", "fr")).share == 0.0


def test_lingua_is_not_loaded_for_english_and_chinese() -> None:
    program = """
import sys
from r1kit.rewards.base import score
from r1kit.text.language import language_consistency
language_consistency("Wir addieren drei und vier, quickly brown foxes 然后检查", "en", ("en", "zh"))
language_consistency("我们把7和12相加 so it is", "zh")
language_consistency("First we add the numbers, and then we check the result.", "en")
assert "lingua" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_language_is_an_error() -> None:
    with pytest.raises(RecipeError, match="'xx'"):
        language_consistency("hello there", "xx")
    with pytest.raises(RecipeError, match="'english'"):
        LanguageReward("zero", languages=["english"])


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Which is the largest? A. 1+2 B. 3+4", "en"),
        ("哪个最大？A. 1+2", "zh"),
        ("次の計算をしなさい。", "ja"),
        ("두 수의 합은?", "ko"),
        ("Combien de pommes reste-t-il à Pierre ?", "fr"),
        ("Wie viele Äpfel hat Anna jetzt noch?", "de"),
        ("Сколько будет два плюс два?", "ru"),
        ("Скільки буде два плюс два?", "uk"),
        ("ما هو مجموع العددين؟", "ar"),
        ("12 + 7 = ?", None),
    ],
)
def test_the_language_of_a_question_is_detected(text: str, language: str | None) -> None:
    assert detect_language(text) == language


def test_the_reward_reads_the_reasoning_alone() -> None:
    problem = make_problem(language="en")
    rollouts = [
        make_rollout(problem, format_zero("we add them", "答案是五十一")),
        make_rollout(problem, format_zero("我们把数字相加", "we add them")),
        make_rollout(problem, format_zero("我们相加 we add", "51")),
        make_rollout(problem, format_zero("45 + 6 = 51", "51")),
        make_rollout(problem, "we add them"),
        make_rollout(problem, "<think> we add them"),
        make_rollout(problem, "<think> we add them", finish_reason="length"),
        make_rollout(problem, ""),
    ]
    # 我们相加 are 2 words, as are "we add"
    assert LanguageReward("zero", languages=["en", "zh"])(rollouts) == [
        1.0,
        0.0,
        0.5,
        0.0,
        0.0,
        1.0,
        1.0,
        0.0,
    ]


def test_a_reasoning_of_formulas_alone_earns_nothing_and_is_not_asked_where_none_is_wanted() -> None:
    formulas = format_chat("$45 + 6 = 51$, `x = 51`, x_1", "The answer is 51.")
    wanted = make_rollout(make_problem(language="en"), formulas)
    unwanted = make_rollout(make_problem("general", None, language="en", wants_reasoning=False), "Hello!")
    breakdowns = score([wanted, unwanted], {"language": LanguageReward("chat")}, {"language": 1.0})
    assert [breakdown.parts for breakdown in breakdowns] == [{"language": 0.0}, {}]


def test_without_a_language_the_questions_is_the_target() -> None:
    problem = make_problem(question_text="45加6是多少？")
    rollouts = [make_rollout(problem, format_chat(text, "51")) for text in ("我们相加", "we add them")]
    assert LanguageReward("chat")(rollouts) == [1.0, 0.0]
    wordless = make_rollout(make_problem(question_text="45 + 6 = ?"), format_chat("we add", "51"))
    assert LanguageReward("chat")([wordless]) == [0.0]
