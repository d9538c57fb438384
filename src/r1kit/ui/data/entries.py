"""A row of any file of a data stage as what a page shows: the question, its texts, where it comes from.

The files: data.jsonl (supervised records, pairs, labels), dropped.jsonl, review.jsonl, and the logs of
samples and of a teacher's replies. Rows may be of any version or damaged, so nothing is taken for granted.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from r1kit.ui.text import as_float, visible

Json = Mapping[str, Any]
_LARGEST = 1e30  # a number beyond it is damage, and no index could hold it

# what a page can filter by, and what it calls it
COLUMNS = {
    "source": "source",
    "domain": "domain",
    "language": "language",
    "style": "style",
    "mark": "mark",
}


@dataclass(frozen=True, slots=True)
class Text:
    """One text of an entry: `label` says which ("response", "chosen", "rejected", ...)."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A row as pages show it. Fields that a row does not have are empty."""

    question: str
    texts: tuple[Text, ...]
    problem_id: str = ""
    source: str = ""
    domain: str = ""
    language: str = ""
    style: str = ""
    mark: str = ""  # safe or unsafe, the filter that dropped it, how a sample ended, whether it is accepted
    reason: str = ""
    difference: float | None = None
    names: tuple[str, ...] = ()  # of the samples that it is made of
    num_tokens: int | None = None  # where the row says it

    @property
    def is_pair(self) -> bool:
        """Whether it has two sides to compare."""
        return len(self.texts) == 2

    @property
    def said(self) -> str:
        """Its texts as one, for searching and counting."""
        return "\n".join(text.text for text in self.texts)


def read_entry(row: Json, origin: Json | None = None) -> Entry:
    """The entry of a row. `origin`: the row of origins.jsonl that belongs to it."""
    if "token_ids" in row or ("text" in row and "finish_reason" in row):
        return _sample(row)
    if "filter" in row:
        return _dropped(row)
    if "content" in row and "name" in row:
        thought = _text(row.get("reasoning"))
        said = f"<think>\n{thought}\n</think>\n\n" if thought else ""
        return _sample({**row, "text": said + _text(row["content"])})
    texts = tuple(
        Text(label, _text(row[label])) for label in ("response", "chosen", "rejected") if label in row
    )
    mark = ""
    if isinstance(row.get("safe"), bool):
        mark = "safe" if row["safe"] else "unsafe"
    elif isinstance(row.get("accepted"), bool):
        mark = "accepted" if row["accepted"] else "rejected"
    more = _flat(origin or row.get("review"))
    names = tuple(_text(more[side]) for side in ("response", "chosen", "rejected") if side in more)
    return Entry(
        _question(row),
        texts,
        problem_id=_text(row.get("problem_id", more.get("problem_id"))),
        source=_text(row.get("source")),
        domain=_text(row.get("domain", more.get("domain"))),
        language=_text(row.get("language", more.get("language"))),
        style=_text(row.get("style")),
        mark=mark,
        difference=_number(row.get("difference")),
        names=names,
    )


def _flat(origin: Any) -> Json:
    """A row's origin, from origins.jsonl or from the row of a review, with its problem's own fields in it."""
    if not isinstance(origin, Mapping):
        return {}
    problem = origin.get("problem")
    if not isinstance(problem, Mapping):
        return origin
    own = {"problem_id": problem.get("id"), "domain": problem.get("domain") or problem.get("kind")}
    return {**own, "language": problem.get("language"), **origin}


def _dropped(row: Json) -> Entry:
    texts = [Text("response", _text(row.get("text")))]
    if "other" in row:
        # a pair dropped for balance had its label already
        sides = ("chosen", "rejected") if row["filter"] == "unbalanced" else ("one", "the other")
        texts = [Text(sides[0], texts[0].text), Text(sides[1], _text(row["other"]))]
    return Entry(
        _text(row.get("question")),
        tuple(texts),
        problem_id=_text(row.get("problem_id")),
        source=_text(row.get("source")),
        domain=_text(row.get("domain")),
        language=_text(row.get("language")),
        mark=_text(row["filter"]),
        reason=_text(row.get("reason")),
        names=tuple(_text(row[name]) for name in ("name", "other_name") if name in row),
    )


def _sample(row: Json) -> Entry:
    label, problem_id = sample_name(_text(row.get("name")))
    tokens = row.get("token_ids")
    return Entry(
        "",
        (Text("sample", _text(row.get("text"))),),
        problem_id=problem_id,
        source=label,
        mark=_text(row.get("finish_reason")),
        names=(_text(row.get("name")),),
        num_tokens=len(tokens) if isinstance(tokens, list) else None,
    )


def sample_name(name: str) -> tuple[str, str]:
    """The label and the problem's id in a sample's name (`sampling.logged`), or two empty texts."""
    try:
        parts = json.loads(name)
        if not isinstance(parts, list):
            return "", ""
        *labels, problem_id, _ = parts
    except (ValueError, TypeError, RecursionError):
        return "", ""
    return ", ".join(map(str, labels)), str(problem_id)


def _question(row: Json) -> str:
    """The last user turn, with the turns before it where there are some."""
    turns = row.get("messages")
    if not isinstance(turns, list):
        return ""
    found = [
        (str(turn.get("role")), _text(turn.get("content"))) for turn in turns if isinstance(turn, Mapping)
    ]
    if len(found) == 1:
        return found[0][1]
    return "\n\n".join(f"{role}: {content}" for role, content in found)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: Any) -> float | None:
    number = as_float(value)
    return number if number is not None and abs(number) < _LARGEST else None


def marked(text: str, q: str) -> Markup:
    """The visible text, with every occurrence of `q` marked."""
    words = q.split()
    if not words:
        return escape(visible(text))
    wanted = re.compile("(" + r"\s+".join(map(re.escape, words)) + ")", re.IGNORECASE)
    parts = [escape(visible(part)) for part in wanted.split(text)]
    return Markup("").join(
        Markup("<mark>{}</mark>").format(part) if i % 2 else part for i, part in enumerate(parts)
    )


def split_thought(text: str) -> tuple[str, str]:
    """The reasoning of a response in the chat or zero shape, and the rest; "" where there is none."""
    before, tag, rest = text.partition("<think>")
    thought, closing, after = rest.partition("</think>")
    return (thought.strip(), after.strip()) if tag and closing and not before.strip() else ("", text)
