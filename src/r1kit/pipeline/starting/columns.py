"""Which columns hold question and answer, and of what kind the problems are, guessed from the rows.

Names count most, then what is in a column: long texts that all differ are questions, numbers and short texts
answers. Where two columns would do, or answers are of no clear kind, that is said as a `Doubt`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.data.rows import Row, near_miss
from r1kit.data.truths import answer_inside
from r1kit.errors import DataError, UserError
from r1kit.pipeline.starting.profile import Profile, mathematical_frac, num_words, profiles_of
from r1kit.pipeline.starting.wishes import Wishes
from r1kit.types import Kind

_QUESTIONS = (
    "question",
    "problem",
    "prompt",
    "query",
    "messages",
    "instruction",
    "task",
    "exercise",
    "input",
    "text",
)
_ANSWERS = (
    *("answer", "finalanswer", "groundtruth", "expectedanswer", "correctanswer", "truth", "gold", "target"),
    *("label", "correct", "result", "solution", "output", "response", "completion", "reference"),
)
# What stands beside a problem in many sets, and is not its answer.
_BESIDE = (
    *("id", "idx", "index", "no", "nr", "number", "uid", "uuid", "level", "difficulty", "year", "source"),
    *("split", "type", "subject", "category", "topic", "domain", "language", "lang", "tier", "url", "rating"),
)
# A column that is ahead by less than this might as well be the other one.
_CLEARLY = 1.0
_MOST, _SOME = 0.8, 0.5
_SHORT_WORDS = 4
_NAMES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Doubt:
    """What the rows leave open: a flag that settles it, what it may be, and what was taken."""

    flag: str  # question, answer, kind
    why: str
    choices: tuple[str, ...]
    taken: str


@dataclass(frozen=True, slots=True)
class Guess:
    """How rows read, as fields of a problem source; why, in half sentences; and what is in doubt."""

    fields: dict[str, Any]
    why: str
    doubts: tuple[Doubt, ...] = ()


def guess_columns(rows: Sequence[Row], wishes: Wishes) -> Guess:
    """Columns and kind of rows of nobody's known schema; what is wished is kept.

    Raises `UserError` for a column that is not there, and where no column could be question or answer.
    """
    profiles = profiles_of(rows)
    _refuse_other_data(profiles, wishes)
    columns, doubts = dict(wishes.columns), []
    for field, name in columns.items():
        _check_column(field, name, profiles)
    if "question" not in columns and "messages" not in columns:
        doubts += _take("question", columns, _question_scores(profiles, columns), profiles)
        if profiles[columns["question"]].conversations > _SOME:
            columns["messages"] = columns.pop("question")
    is_code = wishes.kind == "code" or (wishes.kind is None and _take_tests(columns, profiles))
    if is_code:
        return Guess(_fields(columns, "code", None), _said(columns, "code", None), tuple(doubts))
    if "options" not in columns and wishes.kind in (None, "choice"):
        options = [p.name for p in profiles.values() if p.text_lists > _MOST and not p.conversations]
        if options and (wishes.kind == "choice" or len(options) == 1):
            columns["options"] = options[0]
    if "answer" not in columns:
        doubts += _take("answer", columns, _answer_scores(profiles, columns), profiles)
    answers = profiles[columns["answer"]]
    answer_in = wishes.answer_in or _answer_in(answers)
    kind, doubt = _kind_of(answers, answer_in, columns)
    if wishes.kind is not None:
        kind, doubt = wishes.kind, None
    doubts += [doubt] if doubt else []
    return Guess(_fields(columns, kind, answer_in), _said(columns, kind, answer_in), tuple(doubts))


def _refuse_other_data(profiles: Mapping[str, Profile], wishes: Wishes) -> None:
    """Raise `UserError` for rows that are for other stages: pairs of preferences, responses to train on."""
    if "answer" in wishes.columns:
        return
    names = set(profiles)
    if {"chosen", "rejected"} <= names:
        raise UserError(
            "the data holds preferences (chosen, rejected), and no right answers: those are the `source` of "
            "a stage of kind preferences (docs/data.md); --data is for problems with an answer"
        )
    if {"messages", "response"} <= names and not names & {"answer", "ground_truth"}:
        raise UserError(
            "the data holds responses to fine-tune on, and no right answers: give it as --sft-data of --goal "
            "sft-then-rl; --data is for problems with an answer"
        )


def _check_column(field: str, name: str, profiles: Mapping[str, Profile]) -> None:
    if name not in profiles and name.split(".")[0] not in profiles:
        raise UserError(f"--{field} {name}: no such column in the data; {near_miss(name, profiles)}")


def _take(
    field: str, columns: dict[str, str], scores: list[tuple[float, str]], profiles: Mapping[str, Profile]
) -> list[Doubt]:
    """Put the best column for a field into `columns`; the doubt about it, if there is one."""
    if not scores:
        raise UserError(
            f"no column of the data looks like {'a question' if field == 'question' else 'an answer'} (there "
            f"are {_listed(list(profiles))}): name it with --{field} COLUMN"
        )
    columns[field] = scores[0][1]
    best = profiles[scores[0][1]].texts
    others = [(score, name) for score, name in scores[1:] if profiles[name].texts != best]
    near = [scores[0][1], *(name for score, name in others if score > scores[0][0] - _CLEARLY)]
    if len(near) < 2:
        return []
    return [Doubt(field, f"{' and '.join(near[:3])} could both be the {field}", tuple(near), near[0])]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def _question_scores(profiles: Mapping[str, Profile], taken: Mapping[str, str]) -> list[tuple[float, str]]:
    found = []
    for profile in profiles.values():
        if profile.name in taken.values() or profile.present_frac < _SOME:
            continue
        if profile.conversations <= _SOME and (not profile.texts or profile.mean_words < 3):
            continue
        content = min(profile.mean_words, 20) / 10 + profile.distinct_frac + 2 * profile.frac(r"[?？]")
        content -= 3 * profile.frac(r"####|\\boxed") + 3 * profile.tests
        found.append((_by_name(profile.name, _QUESTIONS) + content + 3 * profile.conversations, profile.name))
    return sorted(found, reverse=True)


def _answer_scores(profiles: Mapping[str, Profile], taken: Mapping[str, str]) -> list[tuple[float, str]]:
    found = []
    for profile in profiles.values():
        by_name = _by_name(profile.name, _ANSWERS)
        beside = _last_word(profile.name) in _BESIDE or (profile.is_counter and not by_name)
        if profile.name in taken.values() or not profile.texts or beside:
            continue
        content = 2.0 * (profile.number_frac > _MOST) + 2.0 * (profile.mean_chars <= 40)
        content += 1.5 * (profile.frac("####") > _MOST) + 1.5 * (profile.frac(r"\\boxed") > _MOST)
        content += profile.math_frac + profile.present_frac - 1
        # a few values again and again are a category, unless they are a choice
        content += min(0.0, 5 * profile.distinct_frac - 1) if profile.number_frac < _MOST else 0.0
        if by_name:
            found.append((by_name + content, profile.name))
        elif profile.mean_chars <= 40:
            found.append((content, profile.name))
    return sorted(found, reverse=True)


def _by_name(name: str, known: Sequence[str]) -> float:
    """4 to 5 for a name that is known, the first most; 2 for one that holds a known name; else 0."""
    plain = _plain(name.rpartition(".")[2])
    if plain in known:
        return 5 - known.index(plain) / len(known)
    return 2.0 if any(one in plain for one in known[:9] if len(one) > 4) else 0.0


def _last_word(name: str) -> str:
    """`index` of `source_index`, and of `sourceIndex`."""
    words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)
    return words[-1].lower() if words else name


def _plain(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())


def _take_tests(columns: dict[str, str], profiles: Mapping[str, Profile]) -> bool:
    """Put the column of tests into `columns`, and the one that names the function; whether there is one."""
    if "tests" not in columns:
        found = [profile.name for profile in profiles.values() if profile.tests > _MOST]
        if not found:
            return False
        columns["tests"] = found[0]
    if "entry_point" in profiles:
        columns.setdefault("entry_point", "entry_point")
    return True


def _answer_in(answers: Profile) -> Any:
    if answers.frac("(?m)^####|####") > _MOST:
        return "####"
    return "boxed" if answers.frac(r"\\boxed") > _MOST and answers.mean_chars > 40 else None


def _kind_of(answers: Profile, answer_in: Any, columns: Mapping[str, str]) -> tuple[Kind, Doubt | None]:
    if "options" in columns:
        return "choice", None
    texts = answers.texts
    if answer_in is not None:
        texts = tuple(found for text in texts if (found := _inside(text, answer_in)) is not None)
        if not texts:
            raise UserError(
                f"--answer-in {answer_in}: no text of the column {answers.name!r} holds an answer there; "
                "leave it out, or name another column with --answer"
            )
    share = mathematical_frac(texts)
    mean_words = sum(map(num_words, texts)) / max(1, len(texts))
    if share >= _MOST:
        return "math", None
    shown = f"the answers in {answers.name!r}, such as {texts[0][:40]!r},"
    if mean_words <= _SHORT_WORDS:
        kind: Kind = "math" if share >= _SOME else "logic"
        why = f"{shown} are short texts: logic compares them as they are, math as formulas"
        return kind, Doubt("kind", why, ("logic", "math", "judged"), kind)
    why = f"{shown} are whole texts, which no rule compares: judged needs a judge (--judge MODEL)"
    return "judged", Doubt("kind", why, ("judged", "logic", "math"), "judged")


def _inside(text: str, where: Any) -> str | None:
    try:
        return answer_inside(text, where)
    except DataError:
        return None


def _fields(columns: Mapping[str, str], kind: Kind, answer_in: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"kind": kind, "columns": dict(columns)}
    return fields | ({"answer_in": answer_in} if answer_in else {})


def _said(columns: Mapping[str, str], kind: Kind, answer_in: Any) -> str:
    where = {"####": ", behind ####", "boxed": ", in the last \\boxed", None: ""}[answer_in]
    parts = [f"{field} from {name!r}{where if field == 'answer' else ''}" for field, name in columns.items()]
    return f"{', '.join(parts)}; kind {kind}"
