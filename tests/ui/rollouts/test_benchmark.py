"""The benchmark of the index in its quick form: it runs, finds what it should, and prints its tables."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_all_readers_and_indexes_find_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/rollout_index.py", "--quick"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    table = {cells[0]: cells[1:] for line in lines if (cells := line.strip("| ").split(" | "))}
    for reader in ("the index's reader", "json", "datasets"):
        assert float(table[reader][1].replace(",", "")) > 0
    assert table["no filter"][-1] == "3,000"
    assert table["rare text, this case"][-1] == table["rare expression"][-1] == "1"
    # the four questions have as many answers everywhere
    assert table["columns"][-1].split()[2:] == ["1", "1"]
    assert table["sqlite"][-1] == table["parquet"][-1] == table["columns"][-1]
