from pathlib import Path

import pytest

from r1kit.judges.ask_log import ask_logged
from r1kit.stage import SilentProgress


def ask(tmp_path: Path, questions: dict[str, int], answer) -> dict[str, int | None]:
    return ask_logged(
        questions,
        answer,
        tmp_path / "log.jsonl",
        to_json=lambda value: {"value": value},
        from_json=lambda row: row["value"],
        progress=SilentProgress(),
        stage="s",
    )


def test_answers_are_logged_by_name_and_not_asked_for_again(tmp_path) -> None:
    asked: list[int] = []

    def double(batch):
        asked.extend(batch)
        return [2 * number for number in batch]

    assert ask(tmp_path, {"a": 1, "b": 2}, double) == {"a": 2, "b": 4}
    assert ask(tmp_path, {"c": 3, "b": 2}, double) == {"c": 6, "b": 4}
    assert asked == [1, 2, 3]


def test_what_could_not_be_had_is_asked_for_by_the_next_run(tmp_path) -> None:
    assert ask(tmp_path, {"a": 1, "b": 2}, lambda batch: [None, 5]) == {"a": None, "b": 5}
    assert ask(tmp_path, {"a": 1, "b": 2}, lambda batch: [7 for _ in batch]) == {"a": 7, "b": 5}


def test_a_killed_run_keeps_the_chunks_before(tmp_path) -> None:
    calls = 0

    def breaks(batch):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return list(batch)

    questions = {str(i): i for i in range(300)}
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path, questions, breaks)
    asked: list[int] = []
    answers = ask(tmp_path, questions, lambda batch: [asked.append(number) or number for number in batch])
    assert answers == questions
    assert asked == list(range(128, 300))
