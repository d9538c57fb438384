"""What `rollout_index` is measured beside: other readers of the log, and other places for the index."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from r1kit.ui.rollouts.filters import Filters
from r1kit.ui.rollouts.lines import LineReader
from r1kit.ui.rollouts.snapshot import Snapshot

Ask = Callable[[Filters, int], int]
"""Answers a question from an offset on: the number of rows that there are."""


def by_the_index(files: Sequence[Path], folder: Path) -> int:
    reader, count = LineReader("chat"), 0
    for path in files:
        with path.open("rb", buffering=1 << 20) as file:
            for raw in file:
                reader.read(raw)
                count += 1
    return count


def by_json(files: Sequence[Path], folder: Path) -> int:
    count = 0
    for path in files:
        with path.open("rb") as file:
            for raw in file:
                json.loads(raw)
                count += 1
    return count


def by_datasets(files: Sequence[Path], folder: Path) -> int:
    from datasets import load_dataset

    made = folder / "datasets"
    found = load_dataset("json", data_files=list(map(str, files)), split="train", cache_dir=str(made))
    shutil.rmtree(made, ignore_errors=True)
    return int(found.num_rows)


def by_duckdb(files: Sequence[Path], folder: Path) -> int:
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    names = ", ".join(f"'{path}'" for path in files)
    connection.execute(
        f'CREATE TABLE t AS SELECT problem.id AS id, step, "group", sample, len(completion.token_ids), '
        f"completion.text, completion.finish_reason, reward, advantage, problem_set "
        f"FROM read_json([{names}], format='newline_delimited', maximum_object_size=100000000)"
    )
    return int(connection.execute("SELECT count(*) FROM t").fetchall()[0][0])


def batches(snapshot: Snapshot, rows: int = 20_000) -> Iterator[dict[str, list[object]]]:
    """All rows with the columns that the questions need, as lists."""
    columns, kinds = snapshot.columns, snapshot.problems.column("kind")
    kind_of = np.asarray(kinds.names)[kinds.codes]
    for start in range(0, snapshot.num_rows, rows):
        here = slice(start, min(start + rows, snapshot.num_rows))
        yield {
            "kind": kind_of[columns["problem"][here]].tolist(),
            "step": snapshot.column("step")[here].tolist(),
            "is_right": ((columns["flags"][here] & 4) > 0).tolist(),
            "total": columns["total"][here].tolist(),
            "advantage": columns["advantage"][here].tolist(),
            "tokens": columns["tokens"][here].tolist(),
            "said": [snapshot.text(i) for i in range(here.start, here.stop)],
        }


def clause(filters: Filters, regex: str) -> tuple[str, list[object], str]:
    """The question as SQL: a condition, its values, an order."""
    if filters.text is not None and filters.mode == "regex":
        return regex, [filters.text], "rowid"
    if filters.text is not None:
        return "instr(said, ?) > 0", [filters.text], "rowid"
    if filters.kind is not None:
        return "kind = ? AND is_right", [filters.kind], "total DESC"
    return "advantage >= ?", [filters.advantage_min], "advantage DESC"


def in_sqlite(snapshot: Snapshot, folder: Path) -> Ask:
    connection = sqlite3.connect(folder / "index.sqlite")
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    # texts in a table of their own, or every filter would have to step over them
    connection.execute(
        "CREATE TABLE r (kind TEXT, step INT, is_right INT, total REAL, advantage REAL, tokens INT)"
    )
    connection.execute("CREATE TABLE said (said TEXT)")
    for batch in batches(snapshot):
        texts = batch.pop("said")
        connection.executemany("INSERT INTO r VALUES (?, ?, ?, ?, ?, ?)", zip(*batch.values(), strict=True))
        connection.executemany("INSERT INTO said VALUES (?)", ((text,) for text in texts))
    for column in ("kind, is_right, total", "advantage"):
        connection.execute(f"CREATE INDEX i{len(column)} ON r ({column})")
    connection.commit()
    connection.create_function(
        "has", 2, lambda pattern, text: bool(re.search(pattern, text)), deterministic=True
    )

    def ask(filters: Filters, offset: int) -> int:
        condition, values, order = clause(filters, "has(?, said)")
        table = "said" if "said" in condition else "r"
        page = f"SELECT rowid FROM {table} WHERE {condition} ORDER BY {order} LIMIT 50 OFFSET {offset}"
        found = connection.execute(page, values).fetchall()
        for (number,) in found:
            connection.execute("SELECT said FROM said WHERE rowid = ?", (number,)).fetchone()
        return int(
            connection.execute(f"SELECT count(*) FROM {table} WHERE {condition}", values).fetchone()[0]
        )

    return ask


def in_duckdb(snapshot: Snapshot, folder: Path) -> Ask:
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect(str(folder / "index.duckdb"))
    connection.execute("SET threads = 1")
    for number, batch in enumerate(batches(snapshot)):
        table = pa.table(batch)
        connection.register("batch", table)
        connection.execute(f"{'INSERT INTO t' if number else 'CREATE TABLE t AS'} SELECT * FROM batch")
        connection.unregister("batch")
    connection.execute("CHECKPOINT")

    def ask(filters: Filters, offset: int) -> int:
        condition, values, order = clause(filters, "regexp_matches(said, ?)")
        page = f"SELECT * FROM t WHERE {condition} ORDER BY {order} LIMIT 50 OFFSET {offset}"
        connection.execute(page, values).fetchall()
        counted = connection.execute(f"SELECT count(*) FROM t WHERE {condition}", values).fetchall()
        return int(counted[0][0])

    return ask


def in_parquet(snapshot: Snapshot, folder: Path) -> Ask:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    pa.set_cpu_count(1)
    writer = None
    for batch in batches(snapshot):
        table = pa.table(batch)
        writer = writer or pq.ParquetWriter(folder / "index.parquet", table.schema, compression="zstd")
        writer.write_table(table)
    assert writer is not None
    writer.close()

    def ask(filters: Filters, offset: int) -> int:
        found = ds.dataset(folder / "index.parquet")
        if filters.text is not None:
            match = pc.match_substring_regex if filters.mode == "regex" else pc.match_substring
            rows = found.to_table(columns=["step"], filter=match(pc.field("said"), filters.text))
            return int(rows.num_rows)
        if filters.kind is not None:
            condition, order = (pc.field("kind") == filters.kind) & pc.field("is_right"), "total"
        else:
            condition, order = pc.field("advantage") >= filters.advantage_min, "advantage"
        rows = found.to_table(columns=[order], filter=condition).sort_by([(order, "descending")])
        rows.slice(offset, 50).to_pylist()
        return int(rows.num_rows)

    return ask


READERS: dict[str, Callable[[Sequence[Path], Path], int]] = {
    "the index's reader": by_the_index,
    "json": by_json,
    "datasets": by_datasets,
    "duckdb": by_duckdb,
}
STORES: dict[str, Callable[[Snapshot, Path], Ask]] = {
    "sqlite": in_sqlite,
    "duckdb": in_duckdb,
    "parquet": in_parquet,
}
