"""What is said of texts whose answer no rule here can tell, and of programs."""

from pathlib import Path

import pytest

from r1kit.data.records import sft_record
from r1kit.data.review_items import FIELD, origin_of
from r1kit.text.template import format_chat
from r1kit.types import Message, Problem
from r1kit.ui.folders import StageView
from r1kit.ui.review import checks
from r1kit.ui.review.checks import check_text

QUESTION: tuple[Message, ...] = ({"role": "user", "content": "Print the number five, please."},)
TEXT = format_chat("I write it down with a call of print.", "```python\nprint(5)\n```")
CONFIG = {
    "min_language_share": 0.95,
    "min_words": 3,
    "languages": ["en"],
    "max_paragraph_chars": 60,
    "general": {"min_language_share": 0.6},
}


def view() -> StageView:
    return StageView("rejection", Path(), "done", {"kind": "rejection", "key": {"config": CONFIG}})


def row(problem: Problem, text: str = TEXT) -> dict:
    record = sft_record(problem, text, style="chat", source="rejection: rejection")
    return {**record, FIELD: origin_of(problem, with_tests=True)}


def lines(found: checks.Checked) -> dict:
    return {line.name: (line.found, line.is_right) for line in found.lines}


def test_programs_run_when_an_edit_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(checks, "find_right", lambda pairs: [asked.append(1) or False])
    problem = Problem("c", "code", QUESTION, tests=({"input": "", "output": "5"},), language="en")
    found = check_text(view(), row(problem), TEXT, runs_programs=False)
    assert lines(found)["answer"] == ("a program: its tests run when the edit is saved", None)
    assert (found.faults, asked) == ((), [])
    found = check_text(view(), row(problem), TEXT, runs_programs=True)
    assert (found.faults, asked) == (("wrong",), [1])
    assert found.forbidding == ("the summary's answer is not correct",)
    without = Problem("c", "code", QUESTION, language="en")  # as in origins.jsonl
    found = check_text(view(), row(without), TEXT, runs_programs=True)
    assert lines(found)["answer"][0] == "not run: finished data do not keep the tests of programs"


def test_reasoning_and_general_data_have_their_own_filters() -> None:
    judged = Problem("j", "judged", QUESTION, reference="five", language="en")
    long = format_chat("I write it down, and then I write it down again, and once more, and so on.", "Five.")
    found = check_text(view(), row(judged), long, runs_programs=True)
    assert found.faults == ("long_paragraph",)
    assert found.of_style == ("a paragraph of the reasoning is too long",)
    assert lines(found)["answer"] == ("graded by a judge, who is not asked here", None)
    fenced = format_chat("I write:\n```\nfive\n```\nand that is all there is.", "Five.")
    assert check_text(view(), row(judged), fenced, runs_programs=True).faults == ("code_block",)
    general = Problem("g", "general", QUESTION, language="en", wants_reasoning=False)
    plain = row(general, "Five.")
    assert check_text(view(), plain, "Good day.", runs_programs=True).lines[0].found == "a summary alone"
    assert check_text(view(), plain, "<think>half", runs_programs=True).faults == ("malformed",)
    # whether there must be reasoning does not follow from a text that someone has edited
    edited = row(general, "Five.")
    edited[FIELD]["needs_reasoning"] = True
    assert check_text(view(), edited, "Five.", runs_programs=True).faults == ("malformed",)
    # a record with reasoning keeps its reasoning
    assert check_text(view(), row(general, long), "Five.", runs_programs=True).faults == ("malformed",)
