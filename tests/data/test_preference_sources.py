import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from r1kit.data.preference_sources import PreferenceSource, load_labels, load_pairs
from r1kit.errors import DataError

FIXTURES = Path(__file__).parent / "fixtures"


def source(name: str, **more) -> PreferenceSource:
    return PreferenceSource(source=f"{name}.jsonl", mapping=name, **more)


def test_ultrafeedback_gives_pairs_and_skips_ties_with_a_count() -> None:
    notes: list[str] = []
    (pair,) = load_pairs(source("ultrafeedback"), seed=0, base_dir=FIXTURES, note=notes.append)
    assert (pair.chosen, pair.rejected, pair.difference) == ("The Loire.", "Paris.", 6.0)  # 9 and 3
    assert pair.messages == ({"role": "user", "content": "Name a river in France."},)
    assert "1 records kept, 1 skipped" in notes[0]
    assert "ultrafeedback.jsonl:2: no preference" in notes[0]
    with pytest.raises(DataError, match=r"ultrafeedback\.jsonl:2"):
        load_pairs(source("ultrafeedback", on_bad="error"), seed=0, base_dir=FIXTURES)


def test_helpsteer2_joins_the_two_rows_of_a_prompt() -> None:
    (pair,) = load_pairs(source("helpsteer2"), seed=0, base_dir=FIXTURES)
    assert (pair.chosen, pair.rejected, pair.difference) == ("Hello!", "No.", 4.0)  # 4 and 0


def test_helpsteer3_reads_the_sign_of_the_preference_and_the_whole_context() -> None:
    first, second = load_pairs(source("helpsteer3"), seed=0, base_dir=FIXTURES)
    assert (first.chosen, second.chosen) == ("Blue.", "Red.")
    assert (first.difference, second.difference) == (3.0, 2.0)  # -3 and 2
    assert [m["role"] for m in first.messages] == ["user", "assistant", "user"]


def test_beavertails_gives_safety_labels_and_no_pairs() -> None:
    labels = load_labels(source("beavertails"), seed=0, base_dir=FIXTURES)
    assert [label.safe for label in labels] == [True, False]
    with pytest.raises(DataError, match="does not hold pairs"):
        load_pairs(source("beavertails"), seed=0, base_dir=FIXTURES)


def test_own_columns_are_mapped_for_pairs_and_labels(tmp_path: Path) -> None:
    row = {"q": "Hi", "good": "Hello!", "bad": "No.", "reply": "Hello!", "ok": 1}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    pairs = PreferenceSource(source="a.jsonl", columns={"prompt": "q", "chosen": "good", "rejected": "bad"})
    [pair] = load_pairs(pairs, seed=0, base_dir=tmp_path)
    assert (pair.rejected, pair.difference) == ("No.", None)
    labels = PreferenceSource(source="a.jsonl", columns={"prompt": "q", "response": "reply", "safe": "ok"})
    assert load_labels(labels, seed=0, base_dir=tmp_path)[0].safe is True


def test_a_missing_column_and_an_unknown_field_suggest_the_near_miss(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "Hi", "Chosen": "a", "rejected": "b"}\n')
    with pytest.raises(DataError, match="no column 'chosen'; did you mean 'Chosen'"):
        load_pairs(PreferenceSource(source="a.jsonl", on_bad="error"), seed=0, base_dir=tmp_path)
    with pytest.raises(ValidationError, match="did you mean 'chosen'"):
        PreferenceSource(source="a.jsonl", columns={"choosen": "x"})


@pytest.mark.parametrize("given", [-1, "much", True])
def test_a_difference_is_a_number_of_0_or_more(tmp_path: Path, given: object) -> None:
    row = {"prompt": "Hi", "chosen": "a", "rejected": "b", "by": given}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    table = PreferenceSource(source="a.jsonl", columns={"difference": "by"}, on_bad="error")
    with pytest.raises(DataError, match=r"a\.jsonl:1: difference must be a number of 0 or more"):
        load_pairs(table, seed=0, base_dir=tmp_path)
    (tmp_path / "a.jsonl").write_text(json.dumps({**row, "by": 2}) + "\n")
    assert load_pairs(table, seed=0, base_dir=tmp_path)[0].difference == 2.0


def load_rows(folder: Path, *rows: dict, note=None, **more) -> list:
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_pairs(PreferenceSource(source="a.jsonl", **more), seed=0, base_dir=folder, note=note)


def test_the_prompt_is_what_both_conversations_begin_with_where_there_is_no_column_of_it(
    tmp_path: Path,
) -> None:
    prompt = [{"role": "user", "content": "Hello?"}]
    good, bad = ([*prompt, {"role": "assistant", "content": text}] for text in ("Hi!", "No."))
    (pair,) = load_rows(tmp_path, {"chosen": good, "rejected": bad})
    assert (pair.messages, pair.chosen, pair.rejected) == (tuple(prompt), "Hi!", "No.")
    (pair,) = load_rows(tmp_path, {"prompt": prompt, "chosen": good[1:], "rejected": bad[1:]})
    assert (pair.messages, pair.chosen) == (tuple(prompt), "Hi!")
    with pytest.raises(DataError, match="conversations that begin differently"):
        load_rows(tmp_path, {"chosen": good, "rejected": [{"role": "user", "content": "Else?"}, bad[1]]})
    with pytest.raises(DataError, match="the last turn of messages is the assistant's"):
        load_rows(tmp_path, {"messages": good, "chosen": "Hi!", "rejected": "No."})


def test_ultrafeedback_may_have_lost_its_scores_but_not_hold_what_are_none(tmp_path: Path) -> None:
    row = {"prompt": "Hello?", "chosen": "Hi!", "rejected": "No."}
    (pair,) = load_rows(tmp_path, row, mapping="ultrafeedback")
    assert (pair.chosen, pair.difference) == ("Hi!", None)
    with pytest.raises(DataError, match="score_rejected must be a number, not None"):
        load_rows(tmp_path, {**row, "score_chosen": 7.0, "score_rejected": None}, mapping="ultrafeedback")


def test_skipped_pairs_are_told_by_kind(tmp_path: Path) -> None:
    same = {"prompt": "?", "chosen": "x", "rejected": "x"}
    notes: list[str] = []
    load_rows(tmp_path, same, {**same, "chosen": "y"}, same, {**same, "chosen": ""}, note=notes.append)
    head, *kinds = notes[0].splitlines()
    assert head == "a.jsonl: 1 records kept, 3 skipped:"
    assert kinds[0].startswith(f"2 rows: {tmp_path}/a.jsonl:1: chosen and rejected are the same text")
    assert kinds[1].startswith(f"{tmp_path}/a.jsonl:4: a response is empty")
