"""Well-known problem sets, told by their columns and by whether their ready mapping reads the rows.

A set is only named where its columns say more than "a question and an answer": those need no mapping.
"""

from collections.abc import Sequence

from r1kit.data.mappings import PROBLEM_MAPPINGS
from r1kit.data.rows import Row
from r1kit.data.sources import problem_fault
from r1kit.errors import DataError

# The columns that tell a set, the most telling sets first; what its rows must hold besides, its mapping says.
_COLUMNS: dict[str, tuple[set[str], ...]] = {
    "leetcode": ({"problem_description", "test", "entry_point"},),
    "humaneval": ({"prompt", "test", "entry_point", "task_id"},),
    "mbpp": ({"test_list", "task_id", "text"}, {"test_list", "task_id", "prompt"}),
    "apps": ({"question", "input_output", "problem_id"},),
    "aqua": ({"question", "options", "correct"},),
    "mmlu": ({"question", "choices", "answer"},),
    "svamp": ({"Body", "Question", "Answer"},),
    "olympiadbench": ({"question", "final_answer", "id"},),
    "verl": ({"prompt", "reward_model"},),
    "openr1-math": ({"problem", "answer", "question_type"},),
    "gsm8k": ({"question", "answer"},),  # its reader wants the answer behind ####
    "math": ({"problem", "solution"},),
}
_TITLES = {
    "gsm8k": "GSM8K's columns: question, answer behind ####",
    "math": "MATH's columns: problem, answer or the last \\boxed of solution",
    "aqua": "AQuA's columns: question, options, correct",
    "mmlu": "MMLU's columns: question, choices, answer",
    "mbpp": "MBPP's columns: text or prompt, test_list",
    "humaneval": "HumanEval's columns: prompt, test, entry_point",
    "svamp": "SVAMP's columns: Body and Question, Answer",
    "verl": "verl's columns: prompt, reward_model.ground_truth",
}
_ROWS_TRIED, _ENOUGH = 40, 0.75

# The split that a set on the hub is evaluated on; the others have one split only.
TEST_SPLITS = {
    name: "test" for name in ("gsm8k", "svamp", "math", "aqua", "mmlu", "mbpp", "apps", "leetcode")
}


def recognise(rows: Sequence[Row]) -> str | None:
    """The ready mapping whose set these rows are of; None where it is none of the well-known ones."""
    tried = [row for row in rows if row.fault is None][:_ROWS_TRIED]
    columns = set(tried[0].values) if tried else set()
    for name, telling in _COLUMNS.items():
        if not any(needed <= columns for needed in telling):
            continue
        if sum(_is_read(name, row) for row in tried) >= _ENOUGH * len(tried):
            return name
    return None


def title_of(mapping: str) -> str:
    """A half sentence on the columns of a ready mapping."""
    return _TITLES.get(mapping, f"the columns of {mapping}")


def _is_read(name: str, row: Row) -> bool:
    try:
        return problem_fault(PROBLEM_MAPPINGS[name].make(row), None) is None
    except DataError:
        return False
