"""Language consistency: words of the target language / all words of the reasoning (DeepSeek-R1 v2, eq. 7).

If only one of the candidate languages uses a script, the script decides. Han in a sentence with kana is
Japanese. If candidates share a script (English and French), lingua decides, for an entire stretch of words
between punctuation and not for single words: it would assign `we`, `is` and `so` to other languages. A
stretch too short to tell follows the one before it. lingua is only loaded if it is needed: never if all
candidates have their own scripts, nor for plainly English stretches. What counts as a word: `words`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from r1kit.errors import RecipeError
from r1kit.text.words import Word, words
from r1kit.types import Problem

if TYPE_CHECKING:
    from lingua import LanguageDetector

_SHARED_SCRIPTS = {
    "Latin": "en de fr es it pt nl sv da nb nn fi pl cs sk sl hr bs hu ro sq et lv lt tr az vi id ms tl sw "
    "af ca eu ga cy is la eo lg mi sn so st tn ts xh yo zu",
    "Cyrillic": "ru uk be bg mk sr mn kk",
    "Arabic": "ar fa ur",
    "Devanagari": "hi mr",
}
_SCRIPTS_OF: dict[str, tuple[str, ...]] = {
    **{code: (script,) for script, codes in _SHARED_SCRIPTS.items() for code in codes.split()},
    **{"zh": ("Han",), "ja": ("Kana", "Han"), "ko": ("Hangul",), "el": ("Greek",), "he": ("Hebrew",)},
    **{"th": ("Thai",), "lo": ("Lao",), "km": ("Khmer",), "my": ("Myanmar",)},
    **{"ka": ("Georgian",), "hy": ("Armenian",), "am": ("Ethiopic",), "si": ("Sinhala",)},
    **{"bn": ("Bengali",), "pa": ("Gurmukhi",), "gu": ("Gujarati",), "ta": ("Tamil",)},
    **{"te": ("Telugu",), "kn": ("Kannada",), "ml": ("Malayalam",)},
}
# Languages that may occur in a reasoning if the recipe names no candidates: those that models mix in. Close
# relatives (Norwegian and Danish, Malay and Indonesian) only count if they are named.
_OPEN = "en zh de fr es it pt nl sv pl cs fi hu ro tr vi id ru uk ja ko ar fa hi th"
OPEN_CANDIDATES = tuple(_OPEN.split())

# A shorter stretch is joined with its neighbour: lingua needs a few words.
_SHORTEST_STRETCH = 4
# Longer stretches are split, so that a switch inside a sentence is seen.
_LONGEST_STRETCH = 8
# lingua's confidence in the target, relative to the best candidate, below which a stretch is in another
# language: always below _CERTAIN; below _LIKELY if that language certainly occurs elsewhere in the text. On
# four to eight words, including names, lingua may be wrong at a confidence of 0.9, but rarely at 0.999.
_CERTAIN = 0.001
_LIKELY = 0.1
# Words that are typical of English reasoning and of no other language: if they make up half of a stretch,
# lingua is not asked. Words shared with other languages (a, in, no, so, an, was, die, on, as, me, he, one)
# are left out.
_PLAIN_ENGLISH = (
    "the of and to is are be been it its this that these those we you they he she what which who how why "
    "when where there then than let's lets first second third next now with from into each every both "
    "same other another by for if or but not because therefore thus hence since have has had does did "
    "should would could can will must may gives get gets becomes equals equal make makes take takes add "
    "adding subtract times multiply divide check checking verify number numbers sum product difference "
    "total answer result step steps larger smaller too big small try again wait find left right start "
    "started holds hold swap swaps still option plus minus more less correct wrong yes problem question "
    "need think know see use using our your their them"
)
_ENGLISH = frozenset(_PLAIN_ENGLISH.split())


@dataclass(frozen=True, slots=True)
class LanguageShare:
    """The fraction of a text's words that are in the target language; 0 if it has no words."""

    share: float
    num_words: int


def problem_language(problem: Problem, candidates: Sequence[str] | None = None) -> str | None:
    """The language that a problem's reasoning should be in: its own, else that of its question."""
    return problem.language or detect_language(problem.question, candidates)


def language_consistency(text: str, target: str, candidates: Sequence[str] | None = None) -> LanguageShare:
    """Words of the language `target` (ISO 639-1) / all words of the text.

    `candidates` are the languages that may occur; None: `OPEN_CANDIDATES`. Raises `RecipeError` for an
    unknown language.
    """
    check_language(target)
    rivals = _rivals(target, None if candidates is None else tuple(candidates))
    all_words = words(text)
    num_words = sum(word.num_words for word in all_words)
    if num_words == 0:
        return LanguageShare(share=0.0, num_words=0)
    num_target = 0
    for script in _SCRIPTS_OF[target]:
        contested = [code for code in rivals if script in _SCRIPTS_OF[code]]
        # nobody else writes in this script
        if not contested:
            num_target += sum(word.num_words for word in all_words if word.script == script)
        elif script == "Han":
            num_target += _count_han(all_words, japanese=target == "ja")
        else:
            num_target += _count_in_stretches(all_words, script, target, (target, *contested))
    return LanguageShare(share=num_target / num_words, num_words=num_words)


def detect_language(text: str, candidates: Sequence[str] | None = None) -> str | None:
    """The language of most words of the text (ISO 639-1), or None if it can't be determined."""
    codes = tuple(OPEN_CANDIDATES if candidates is None else candidates)
    for code in codes:
        check_language(code)
    all_words = words(text)
    counts: dict[str, int] = {}
    for word in all_words:
        counts[word.script] = counts.get(word.script, 0) + word.num_words
    # a Japanese sentence may have more Han than kana, so they are added up
    script = max(
        counts, key=lambda s: (counts[s] + (counts.get("Kana", 0) if s == "Han" else 0), s), default=""
    )
    if script == "Han" and counts.get("Kana") and "ja" in codes:
        script = "Kana"
    if not counts.get(script):
        return None
    possible = [code for code in codes if script in _SCRIPTS_OF[code]]
    if script == "Han" and "zh" in possible:
        return "zh"
    if len(possible) > 1:
        run = [word.text for word in all_words if word.script == script]
        if "en" in possible and _is_plainly_english(run):
            return "en"
        confidences = _confidences(" ".join(run), tuple(possible))
        return max(possible, key=lambda code: confidences.get(code, 0.0))
    return possible[0] if possible else None


def check_language(code: str) -> None:
    """Raise `RecipeError` for an unknown language code."""
    if code not in _SCRIPTS_OF:
        raise RecipeError(f"language {code!r} is not known; use an ISO 639-1 code such as `en` or `zh`.")


@lru_cache(maxsize=256)
def _rivals(target: str, candidates: tuple[str, ...] | None) -> tuple[str, ...]:
    """The other languages that may occur."""
    codes = OPEN_CANDIDATES if candidates is None else candidates
    for code in codes:
        check_language(code)
    return tuple(dict.fromkeys(code for code in codes if code != target))


def _count_han(all_words: Sequence[Word], *, japanese: bool) -> int:
    """Words in Han runs that are Japanese, or else Chinese, by the kana in their sentence.

    A run of at most four Han characters may be a Japanese name or answer: it follows the rest of the text.
    """
    text_has_kana = any(word.script == "Kana" for word in all_words)
    count = 0
    for sentence in _sentences(all_words):
        has_kana = any(word.script == "Kana" for word in sentence)
        for word in sentence:
            if word.script == "Han":
                is_japanese = has_kana or (text_has_kana and len(word.text) <= 4)
                count += word.num_words * (is_japanese == japanese)
    return count


def _sentences(all_words: Sequence[Word]) -> Iterable[list[Word]]:
    sentence: list[Word] = []
    for word in all_words:
        if word.script == "stop":
            yield sentence
            sentence = []
        else:
            sentence.append(word)
    yield sentence


def _count_in_stretches(
    all_words: Sequence[Word], script: str, target: str, languages: tuple[str, ...]
) -> int:
    """The number of words in stretches of the target language, in one script."""
    stretches = _stretches(all_words, script)
    guesses = [_guess(" ".join(stretch), target, languages) for stretch in stretches]
    # first pass: the languages that certainly occur; only these compete with the target at _LIKELY
    occurring = {
        max(guess, key=lambda code: guess[code])
        for stretch, guess in zip(stretches, guesses, strict=True)
        if len(stretch) >= _SHORTEST_STRETCH and guess[target] < _CERTAIN * max(guess.values())
    }
    count = 0
    undecided = 0
    previous: bool | None = None
    for stretch, guess in zip(stretches, guesses, strict=True):
        own, rival = guess[target], max((guess[code] for code in occurring), default=0.0)
        # a short stretch only decides if it agrees with the target or a rival is known to occur
        if len(stretch) >= _SHORTEST_STRETCH or rival or own == max(guess.values()):
            previous = own >= max(_LIKELY * rival, _CERTAIN * max(guess.values()))
        if previous is None:
            undecided += len(stretch)
        else:
            # stretches before the first clear one follow it
            count += (len(stretch) + undecided) * previous
            undecided = 0
    return count + undecided


def _stretches(all_words: Sequence[Word], script: str) -> list[list[str]]:
    """Runs of a script's words between punctuation: short ones joined, long ones split."""
    clauses: list[list[str]] = [[]]
    for word in all_words:
        if word.script == script:
            clauses[-1].append(word.text)
        elif len(clauses[-1]) >= _SHORTEST_STRETCH or (clauses[-1] and word.script != "pause"):
            clauses.append([])
    joined: list[list[str]] = []
    for clause in clauses:
        if joined and len(joined[-1]) < _SHORTEST_STRETCH and len(clause) < _SHORTEST_STRETCH:
            joined[-1] += clause
        elif clause:
            joined.append(clause)
    stretches: list[list[str]] = []
    for clause in joined:
        # equal pieces, so that no rest is too short to tell
        num_pieces = -(-len(clause) // _LONGEST_STRETCH)
        for i in range(num_pieces):
            stretches.append(clause[i * len(clause) // num_pieces : (i + 1) * len(clause) // num_pieces])
    return stretches


def _is_plainly_english(stretch: Sequence[str]) -> bool:
    known = sum(word.lower() in _ENGLISH for word in stretch)
    return known >= 2 and 2 * known >= len(stretch)


def _guess(stretch: str, target: str, languages: tuple[str, ...]) -> dict[str, float]:
    """The confidence in each language; all of it in the target if there is nothing to ask."""
    if target == "en" and _is_plainly_english(stretch.split(" ")):
        return {code: float(code == "en") for code in languages}
    confidences = _confidences(stretch, languages)
    return confidences if any(confidences.values()) else {code: float(code == target) for code in languages}


@lru_cache(maxsize=1 << 16)
def _confidences(text: str, languages: tuple[str, ...]) -> dict[str, float]:
    """lingua's confidence in each language, by ISO 639-1 code."""
    values = _detector(languages).compute_language_confidence_values(text)
    return {value.language.iso_code_639_1.name.lower(): value.value for value in values}


@lru_cache(maxsize=32)
def _detector(languages: tuple[str, ...]) -> "LanguageDetector":
    """lingua with trigrams only: a quarter of a second to load, a tenth of a millisecond per stretch."""
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [IsoCode639_1.from_str(code.upper()) for code in sorted(languages)]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).with_low_accuracy_mode().build()
