import json
from pathlib import Path
from typing import Any

import pytest

from r1kit.data.sources import ProblemSource, load_problems
from r1kit.errors import DataError


def load(tmp_path: Path, *rows: tuple[Any, Any], **fields: Any) -> list[Any]:
    """Problems of rows that are (options, answer)."""
    written = [
        {"question": f"Question {i}?", "options": options, "answer": answer}
        for i, (options, answer) in enumerate(rows)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    source = ProblemSource(source="a.jsonl", kind="choice", **fields)
    return load_problems(source, seed=0, base_dir=tmp_path)


def letters(tmp_path: Path, *rows: tuple[Any, Any], **fields: Any) -> list[str]:
    return [problem.ground_truth for problem in load(tmp_path, *rows, **fields)]


PLANT = ["leaf", "root", "flower", "seed"]
LEGS = {"text": ["2", "4", "6", "8"], "label": ["1", "2", "3", "4"]}


def test_labels_in_the_data_say_what_an_answer_means(tmp_path: Path) -> None:
    numbered = {"text": PLANT, "label": ["1", "2", "3", "4"]}
    rows = [(numbered, "2"), (LEGS, "2"), (LEGS, 2), ({"text": PLANT, "label": list("ABCD")}, "C")]
    assert letters(tmp_path, *rows) == ["B", "B", "B", "C"]
    with pytest.raises(DataError, match=r"a\.jsonl:1: the answer '5' is none of the labels 1, 2, 3, 4"):
        letters(tmp_path, (numbered, "5"))


def test_options_are_read_in_the_forms_that_files_have(tmp_path: Path) -> None:
    listed = [{"label": "x", "text": "leaf"}, {"label": "y", "text": "root"}]
    rows = [(listed, "y"), ({"A": "leaf", "B": "root"}, "B"), (["A) leaf", "B) root"], "B"), (PLANT, "(b)")]
    problems = load(tmp_path, *rows)
    assert [problem.ground_truth for problem in problems] == ["B", "B", "B", "B"]
    assert problems[2].metadata["options"] == ["leaf", "root"]
    assert problems[2].question.endswith("\nA. leaf\nB. root")


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([0, 3], ["A", "D"]),  # 0 is there: from 0
        ([1, 4], ["A", "D"]),  # as many as options: from 1
        (["1", "4"], ["A", "D"]),
        ([1, "B", "seed", 4], ["A", "B", "D", "D"]),
    ],
)
def test_all_rows_together_tell_what_positions_count_from(
    answers: list[Any], found: list[str], tmp_path: Path
) -> None:
    assert letters(tmp_path, *((PLANT, answer) for answer in answers)) == found


def test_positions_that_do_not_tell_are_refused_until_the_recipe_says(tmp_path: Path) -> None:
    rows = [(PLANT, 1), (PLANT, 3)]
    with pytest.raises(
        DataError, match=r"a\.jsonl:1: the answer 1 is a position, .* \(they are 1 to 3, of up to 4"
    ):
        letters(tmp_path, *rows)
    assert letters(tmp_path, *rows, answers_from=1) == ["A", "C"]
    assert letters(tmp_path, *rows, answers_from=0) == ["B", "D"]
    with pytest.raises(DataError, match="can't be told"):
        letters(tmp_path, (PLANT, 0), (PLANT, 4))


def test_a_number_that_is_an_options_text_and_no_place_is_the_text(tmp_path: Path) -> None:
    assert letters(tmp_path, (["12", "13", "14"], 13), (["7", "9"], "9")) == ["B", "B"]
    with pytest.raises(DataError, match="can't be told"):
        letters(tmp_path, (["3", "2", "1"], 1))  # the third by text, the second or first by place


def test_a_letter_that_is_another_options_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is the letter of one option and the text of another"):
        letters(tmp_path, (["B", "A"], "A"))
