"""The pages of a run's data: its stages, one of them, its records, one record, its duplicates."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from r1kit.ui.data.entries import COLUMNS, Entry, marked, split_thought
from r1kit.ui.data.facts import DATA_KINDS, FILES, counts_of, data_stages, tokenizer_of
from r1kit.ui.data.funnel import Funnel, funnels
from r1kit.ui.data.index import SAMENESS, Index, indexes
from r1kit.ui.data.near import LEAST_SHARE, NEAR, can_compare, has_near
from r1kit.ui.data.search import ORDERS, ORDERS_OF_PAIRS, Filters, duplicates, find, iter_lines, kept_rows
from r1kit.ui.data.stage_page import stage_values
from r1kit.ui.data.verdicts import Vote, verdict_log, votes_on
from r1kit.ui.folders import Json, Run, StageView
from r1kit.ui.live import Watch, named_mark
from r1kit.ui.pages import page
from r1kit.ui.site import run_of
from r1kit.ui.text import visible

router = APIRouter()

PER_PAGE = 20
_MOST_OPTIONS = 200  # of a menu; whatever is beyond can still be written into the address
_WATCHED = ("counts.json", "data.jsonl", "dropped.jsonl", "review.jsonl", "progress.json", "manifest.json")

FileName = Literal["data", "dropped", "review", "samples", "general_samples", "teacher", "rewrites"]
Sameness = Literal["record", "response", "question", "numbers", "near"]
_ALL_SAMENESS = {**SAMENESS, NEAR: "nearly the same response"}
Order = Literal["file", "longest", "shortest", "closest", "clearest"]


@dataclass(frozen=True)
class DataLine:
    """A data stage in the list of them."""

    view: StageView
    funnels: list[Funnel]
    num_records: int | None
    files: list[str]
    num_reviewed_out: int = 0  # dropped by reviewers; counts.json of some kinds is from before the review

    @property
    def unit(self) -> str:
        """What its records are."""
        if self.view.kind != "preferences":
            return "records"
        return "labels" if self.view.config.get("objective") == "pointwise" else "pairs"


@dataclass(frozen=True)
class Shown:
    """A row on a page of records."""

    row: int
    entry: Entry
    length: int
    kept: bool | None = None  # of a sample: whether a record says the same

    @property
    def number(self) -> int:
        """The row as addresses and people count it, from 1."""
        return self.row + 1


def stage_of(stage: str, run: Annotated[Run, Depends(run_of)]) -> StageView:
    """The data stage that the address names; for `Depends`."""
    for view in run.stages():
        if view.name == stage:
            if view.kind not in DATA_KINDS:
                raise HTTPException(
                    404,
                    f"{stage} is of kind {view.kind or 'unknown'}; only {', '.join(DATA_KINDS)} make data.",
                )
            return view
    known = ", ".join(view.name for view in data_stages(run)) or "none yet"
    raise HTTPException(404, f"There is no stage {stage!r} in {run.id}; its data stages: {known}.")


def filters_of(
    q: Annotated[str, Query(max_length=500)] = "",
    source: Annotated[str, Query(max_length=500)] = "",
    domain: Annotated[str, Query(max_length=500)] = "",
    language: Annotated[str, Query(max_length=500)] = "",
    style: Annotated[str, Query(max_length=500)] = "",
    mark: Annotated[str, Query(max_length=500)] = "",
    shortest: Annotated[str, Query(pattern=r"^\d{0,9}$")] = "",
    longest: Annotated[str, Query(pattern=r"^\d{0,9}$")] = "",
    same: Sameness | Literal[""] = "",
    like: Annotated[int | None, Query(ge=1, le=2**31)] = None,
    kept: Literal["", "yes", "no"] = "",
    order: Order = "file",
) -> Filters:
    """The filters in the address; a form sends empty texts for those that are not set."""
    low, high = (int(value) if value else None for value in (shortest, longest))
    return Filters(q, source, domain, language, style, mark, low, high, same, like, kept, order)


ThisRun = Annotated[Run, Depends(run_of)]
ThisStage = Annotated[StageView, Depends(stage_of)]
TheseFilters = Annotated[Filters, Depends(filters_of)]


@router.get("/runs/{run}/data")
def list_page(request: Request, run: ThisRun) -> Response:
    """The run's data stages."""
    events = _watch(run).address(f"{run.url}/data-events")
    lines = [_line(view) for view in data_stages(run)]
    return _page(request, "data/list.html", run=run, lines=lines, events=events)


@router.get("/runs/{run}/data-events")
def list_events(request: Request, run: ThisRun) -> Response:
    """`changed` when a data stage of the run has."""
    return _watch(run).events(request)


@router.get("/runs/{run}/data/{stage}")
def stage_page(
    request: Request,
    run: ThisRun,
    view: ThisStage,
    of: Annotated[str, Query(max_length=500)] = "",
) -> Response:
    """One stage: its funnel, what its filters dropped, its records in numbers. `of`: one source or domain."""
    events = _watch(run, view.name).address(f"{run.url}/data/{quote(view.name, safe='')}/events")
    view = stage_of(view.name, run)  # as it is since then
    index = _index(run, view, "data")
    dropped = _index(run, view, "dropped")
    counts, fault = counts_of(view)
    values = stage_values(counts, index, dropped, of=of)
    faults = [*view.faults, *([fault] if fault else []), *(index.faults if index else [])]
    line = _line(view)
    shown = {"run": run, "view": view, "line": line, "faults": faults, "events": events}
    return _page(request, "data/stage.html", **shown, **values)


@router.get("/runs/{run}/data/{stage}/events")
def stage_events(request: Request, run: ThisRun, view: ThisStage) -> Response:
    """`changed` when the stage's files have."""
    return _watch(run, view.name).events(request)


@router.get("/runs/{run}/data/{stage}/records")
def records_page(
    request: Request,
    run: ThisRun,
    view: ThisStage,
    filters: TheseFilters,
    file: FileName = "data",
    number: Annotated[int, Query(alias="page", ge=1, le=10**7)] = 1,
) -> Response:
    """A page of the rows of one of the stage's files that pass the filters."""
    index = _index(run, view, file)
    values: dict[str, Any] = {"found": None, "shown": [], "num_pages": 1, "options": {}}
    if index is not None and index.done.is_set() and _is_compared(index, filters.same):
        records = _records_of_samples(run, view, file)
        is_kept = None if records is None else kept_rows(index, records)
        found = find(index, filters, is_kept=is_kept, wanted=number * PER_PAGE)
        values["num_pages"] = max(1, -(-len(found.rows) // PER_PAGE))
        number = min(number, values["num_pages"])
        rows = found.rows[(number - 1) * PER_PAGE : number * PER_PAGE].tolist()
        with index.path.open("rb") as opened:
            values["shown"] = [
                Shown(
                    row,
                    index.read(opened, row),
                    index.length(row),
                    None if is_kept is None else bool(is_kept[row]),
                )
                for row in rows
            ]
        options = _options(index)
        if is_kept is not None:
            num = int(is_kept.sum())
            options["kept"] = {"yes": num, "no": index.num_rows - num}
        values |= {"found": found, "options": options}
    return _page(
        request,
        "data/records.html",
        run=run,
        view=view,
        line=_line(view),
        index=index,
        file=file,
        filters=filters,
        number=number,
        orders=ORDERS | (ORDERS_OF_PAIRS if index is not None and index.is_pairs else {}),
        sameness=_ALL_SAMENESS,
        said=partial(marked, q=filters.q),
        address=lambda path="records", **changed: _address(run, view, path, file, filters, changed),
        **values,
    )


@router.get("/runs/{run}/data/{stage}/download")
def download(
    run: ThisRun, view: ThisStage, filters: TheseFilters, file: FileName = "data"
) -> StreamingResponse:
    """All rows that pass the filters, as JSONL."""
    index = _complete(_index(run, view, file), view, file)
    if not _is_compared(index, filters.same):
        raise HTTPException(503, "Near-duplicates are being looked for; try again in a moment.")
    records = _records_of_samples(run, view, file)
    is_kept = None if records is None else kept_rows(index, records)

    def stream() -> Iterator[bytes]:
        waiting: list[bytes] = []
        for line in iter_lines(index, filters, is_kept=is_kept):
            waiting.append(line)
            if len(waiting) == 256:
                yield b"".join(waiting)
                waiting.clear()
        yield b"".join(waiting)

    name = f"{view.name}-{file}{'-filtered' if filters.active else ''}.jsonl"
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)
    headers = {"Content-Disposition": f'attachment; filename="{safe}"'}
    return StreamingResponse(stream(), media_type="application/jsonl", headers=headers)


@router.get("/runs/{run}/data/{stage}/records/{row}")
def record_page(
    request: Request, run: ThisRun, view: ThisStage, row: int, file: FileName = "data"
) -> Response:
    """One row, with the judge's verdicts and its duplicates."""
    index = _complete(_index(run, view, file), view, file)
    if not 1 <= row <= index.num_rows:
        raise HTTPException(404, f"{index.path.name} has {index.num_rows} rows; there is no row {row}.")
    row -= 1
    entry = index.entry(row)
    same = {
        name: len(find(index, Filters(same=name, like=row + 1)).rows) - 1
        for name in index.hashes
        if file != "dropped"
    }
    with index.path.open("rb") as opened:
        line = index.raw(opened, row).decode("utf-8", "replace")
    return _page(
        request,
        "data/record.html",
        run=run,
        view=view,
        line=_line(view),
        index=index,
        file=file,
        shown=Shown(row, entry, index.length(row)),
        same=same,
        sameness=_ALL_SAMENESS,
        raw=line if len(line) < 200_000 else "",
        **_votes(run, view, entry),
    )


@router.get("/runs/{run}/data/{stage}/duplicates")
def duplicates_page(
    request: Request,
    run: ThisRun,
    view: ThisStage,
    same: Sameness = "response",
    number: Annotated[int, Query(alias="page", ge=1, le=10**7)] = 1,
) -> Response:
    """Groups of duplicates with their texts, the largest first."""
    index = _complete(_index(run, view, "data"), view, "data")
    shared = {"run": run, "view": view, "line": _line(view), "index": index, "same": same}
    shared |= {"sameness": _ALL_SAMENESS, "least_share": LEAST_SHARE}
    if not _is_compared(index, same):
        return _page(request, "data/duplicates.html", **shared, is_made=False)
    _, num_groups, num_beyond = duplicates(index, same, most=0)
    num_pages = max(1, -(-num_groups // PER_PAGE))
    number = min(number, num_pages)
    groups = duplicates(index, same, most=number * PER_PAGE)[0][(number - 1) * PER_PAGE :]
    with index.path.open("rb") as opened:
        shown = [(Shown(row, index.read(opened, row), index.length(row)), num) for row, num in groups]
    return _page(
        request,
        "data/duplicates.html",
        **shared,
        is_made=True,
        number=number,
        num_pages=num_pages,
        shown=shown,
        num_groups=num_groups,
        num_beyond=num_beyond,
    )


def _page(request: Request, template: str, **values: Any) -> Response:
    shared: dict[str, Any] = {
        "part": "data",
        "files": FILES,
        "visible": visible,
        "said": visible,
        "split_thought": split_thought,
    }
    return page(request, template, **(shared | values))


def _is_compared(index: Index, same: str) -> bool:
    """Whether the duplicates that are asked for are known yet."""
    if same != NEAR:
        return True
    if not can_compare(index):
        raise HTTPException(
            400, f"{index.path.name} is too large to look for near-duplicates in it; exact ones are known."
        )
    return has_near(index)


def _votes(run: Run, view: StageView, entry: Entry) -> dict[str, Any]:
    """The judge's votes on a pair or a label, and a sentence where there are none to show."""
    path = view.folder / "judgments.jsonl"
    if view.kind != "preferences" or not path.is_file():
        return {"votes": [], "no_votes": ""}
    if not entry.names:
        why = "It is not known which are its own: it was edited, or the stage was made by an older version."
        return {"votes": [], "no_votes": why}
    log = verdict_log(path)
    if log is None:
        return {"votes": [], "no_votes": "They are still being read; load the page again in a moment."}
    settings: Any = view.manifest
    for name in ("key", "settings", "run"):
        settings = settings.get(name) if isinstance(settings, dict) else None
    seeds = (settings.get("seed") if isinstance(settings, dict) else None, run.record.get("seed"))
    seed = next((value for value in seeds if isinstance(value, int)), 0)
    asked = view.config.get("judgments")
    num_asked = max(0, min(asked, 1000)) if isinstance(asked, int) else 4
    votes: list[Vote] = votes_on(log, entry.names, num_asked=num_asked, seed=seed)
    return {"votes": votes, "no_votes": "" if votes else "The judge gave none."}


def _line(view: StageView) -> DataLine:
    counts = counts_of(view)[0]
    metrics = view.manifest.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    num, out = metrics.get("records"), metrics.get("dropped_in_review")
    files = [name for name, (file, _) in FILES.items() if (view.folder / file).is_file()]
    num_out = out if isinstance(out, int) else 0
    return DataLine(view, funnels(counts), num if isinstance(num, int) else None, files, num_out)


def _watch(run: Run, stage: str | None = None) -> Watch:
    """The run's data stages, or one of them."""

    def look() -> object:
        # asked anew each time: a finished stage moves to another folder
        views = [view for view in data_stages(run) if stage in (None, view.name)]
        return run.holder, named_mark(view.folder / name for view in views for name in _WATCHED)

    return Watch(("data", run.folder, stage), look)


def _index(run: Run, view: StageView, file: str) -> Index | None:
    return indexes.get(view.folder / FILES[file][0], tokenizer=tokenizer_of(run, view))


def _complete(index: Index | None, view: StageView, file: str) -> Index:
    if index is None:
        raise HTTPException(404, f"{view.name} has no {FILES[file][0]}.")
    if not index.done.is_set():
        raise HTTPException(
            503,
            f"{index.path.name} is being read, {index.progress:.0%} so far; load the page again in a moment.",
        )
    return index


def _records_of_samples(run: Run, view: StageView, file: str) -> Index | None:
    """The records among which a log's samples are to be found as they were sampled; None if they can't be."""
    if view.kind != "rejection" or "samples" not in file or view.config.get("prompt_style") == "zero":
        return None  # other stages rewrite, shorten or pair what they sampled
    index = _index(run, view, "data")
    return index if index is not None and index.done.is_set() else None


def _options(index: Index) -> dict[str, Json]:
    """The values of each column that differs between rows, with their counts."""
    found = {name: index.columns[name].counts() for name in COLUMNS}
    return {
        name: dict(list(counts.items())[:_MOST_OPTIONS]) for name, counts in found.items() if len(counts) > 1
    }


def _address(
    run: Run, view: StageView, path: str, file: str, filters: Filters, changed: dict[str, Any]
) -> str:
    number = changed.pop("page", None)
    query = filters.query(**changed) | ({"file": file} if file != "data" else {})
    if number is not None:
        query["page"] = str(number)
    return f"{run.url}/data/{quote(view.name)}/{path}" + (f"?{urlencode(query)}" if query else "")
