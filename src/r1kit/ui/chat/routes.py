"""The chat's page, and the stream of answers that its script reads.

One request asks all models, and its answer is one stream of JSON lines, each with the place of its model: a
browser opens few connections to a server at a time, and this takes one. A closed tab ends it and with it the
sampling. The conversation is the page's; the server keeps none, so that the same request gives the same
answers.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from r1kit.config import suggest
from r1kit.seeds import derive_seed
from r1kit.types import Message, PromptStyle
from r1kit.ui.chat.pool import ModelSpec, Pool
from r1kit.ui.chat.questions import Question, find_question, questions_of, shown
from r1kit.ui.chat.speakers import Speaker, speakers_of
from r1kit.ui.folders import Json, Run
from r1kit.ui.pages import page
from r1kit.ui.site import Site, run_of, site_of

_log = logging.getLogger("r1kit.ui")

_MOST_MODELS = 12
_MOST_TOKENS = 131_072
_MOST_CHARACTERS = 400_000  # of one message
_ALIVE_SECONDS = 0.5  # between two looks at whether someone still listens

Style = Literal["own", "zero", "chat"]
Seed = Annotated[int, Field(ge=0, lt=2**53)]  # a script's numbers are exact up to here


@contextlib.asynccontextmanager
async def _pool(app: FastAPI) -> AsyncIterator[None]:
    pool = app.state.chat = Pool()
    site: Site = app.state.site
    watching = [
        asyncio.create_task(pool.sweep()),
        asyncio.create_task(pool.give_way(lambda: _is_at_work(site))),
    ]
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
        await pool.close()


router = APIRouter(lifespan=_pool)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Turn(_Strict):
    """An earlier turn of a conversation."""

    role: Literal["user", "assistant"]
    content: Annotated[str, Field(max_length=_MOST_CHARACTERS)]


class Asked(_Strict):
    """One model, and the conversation with it so far. `model` is STAGE, or RUN:STAGE of another run."""

    model: str
    turns: Annotated[list[Turn], Field(max_length=200)] = []


class Ask(_Strict):
    """A question to several models."""

    models: Annotated[list[Asked], Field(min_length=1, max_length=_MOST_MODELS)]
    question: Annotated[str, Field(max_length=_MOST_CHARACTERS)]
    seed: Seed = 0
    turn: Annotated[int, Field(ge=0, le=1000)] = 0
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.6
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_tokens: Annotated[int, Field(ge=1, le=_MOST_TOKENS)] = 512
    style: Style = "own"


@router.get("/runs/{run}/chat")
def chat_page(
    request: Request,
    run: Annotated[Run, Depends(run_of)],
    site: Annotated[Site, Depends(site_of)],
    stage: Annotated[list[str] | None, Query()] = None,
    others: Annotated[list[str] | None, Query(alias="with")] = None,
    q: Annotated[list[str] | None, Query(max_length=200)] = None,
    seed: Annotated[list[Seed] | None, Query(max_length=200)] = None,
    temperature: Annotated[float, Query(ge=0, le=10, allow_inf_nan=False)] = 0.6,
    top_p: Annotated[float, Query(gt=0, le=1)] = 0.95,
    max_tokens: Annotated[int | None, Query(ge=1, le=_MOST_TOKENS)] = None,
    style: Style = "own",
) -> Response:
    """The page. With questions (`q`, with a `seed` each) it asks them at once, in turn.

    From a link on another site it only has the first one ready: nobody else starts work here.
    """
    is_from_elsewhere = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    speakers = speakers_of(run)
    chosen = [find_speaker(site, run, name) for name in stage or ()]
    chosen += [find_speaker(site, run, name, is_other=True) for name in others or ()]
    given = bool(chosen)
    if not chosen:  # the base and the last stage: what the run has changed
        able = [speaker for speaker in speakers if speaker.fault is None]
        chosen = able[:1] + [speaker for speaker in able[-1:] if len(able) > 1]
    shown_speakers = [*speakers, *(s for s in chosen if s.run != run.id)]
    keys = [_key(speaker, run) for speaker in chosen]
    ready = shown(questions_of(run))
    config = {
        "run": run.id,
        "models": [_model_row(speaker, run) for speaker in shown_speakers],
        "chosen": list(dict.fromkeys(keys)),
        "given": given,
        "questions": [] if is_from_elsewhere else q or [],
        "draft": (q or [""])[0] if is_from_elsewhere else "",
        "seeds": seed or [],
        "most_models": _MOST_MODELS,
    }
    settings: Json = {
        "temperature": temperature,
        "top_p": top_p,
        "max_tokens": max_tokens or max((s.max_tokens for s in speakers), default=512),
        "style": style,
        "seed": (seed or [0])[-1],
    }
    return page(
        request,
        "chat.html",
        run=run,
        part="chat",
        config=json.dumps(config),
        settings=settings,
        ready=ready,
        other_runs=[one for one in site.runs() if one.id != run.id],
        num_stages=len(speakers) - 1,
        faults=[s.fault for s in speakers if s.fault],
    )


@router.get("/runs/{run}/chat/models")
def models(
    run: Annotated[Run, Depends(run_of)], site: Annotated[Site, Depends(site_of)], of: str
) -> Response:
    """The models of another run, for this run's page."""
    return JSONResponse([_model_row(speaker, run) for speaker in speakers_of(site.run(of))])


@router.post("/runs/{run}/chat/ask")
def ask(
    request: Request,
    run: Annotated[Run, Depends(run_of)],
    site: Annotated[Site, Depends(site_of)],
    asked: Ask,
) -> Response:
    """A stream of JSON lines, each with `at`, the place of its model in the request."""
    if not asked.question.strip():
        raise HTTPException(400, "The question is empty.")
    speakers = [find_speaker(site, run, one.model, is_other=":" in one.model) for one in asked.models]
    question = find_question(run, asked.question)
    device = "cpu" if _is_at_work(site) else "auto"
    tasks = [
        (speaker, _question(asked, one, speaker, question))
        for speaker, one in zip(speakers, asked.models, strict=True)
    ]
    pool = request.app.state.chat
    assert isinstance(pool, Pool)
    return StreamingResponse(
        _answers(request, pool, tasks, device, question),
        media_type="application/x-ndjson",
        headers={"X-Accel-Buffering": "no"},
    )


def _is_at_work(site: Site) -> bool:
    """Whether a run is going on: its accelerator is its own. Runs outside the site's folders are not seen."""
    return any(run.holder is not None for run in site.runs())


def find_speaker(site: Site, run: Run, name: str, *, is_other: bool = False) -> Speaker:
    """The model that an address names: STAGE, or with `is_other` RUN:STAGE. Raises `HTTPException`."""
    if is_other:
        other, _, name = name.rpartition(":")
        run = site.run(other)
    speakers = speakers_of(run)
    for speaker in speakers:
        if speaker.stage == name:
            return speaker
    known = [speaker.stage for speaker in speakers]
    raise HTTPException(404, f"{run.id} has no model {name!r} to talk to; {suggest(name, known)}")


def _key(speaker: Speaker, run: Run) -> str:
    return speaker.stage if speaker.run == run.id else f"{speaker.run}:{speaker.stage}"


def _model_row(speaker: Speaker, run: Run) -> Json:
    return {
        "key": _key(speaker, run),
        "style": speaker.style,
        "fault": speaker.fault,
        "note": speaker.note,
    }


def _question(asked: Ask, one: Asked, speaker: Speaker, question: Question | None) -> Json:
    """What a process is told. In the zero style a question stands alone, as its template has no turns."""
    style: PromptStyle = speaker.style if asked.style == "own" else asked.style
    turns = [Message(role=turn.role, content=turn.content) for turn in one.turns] if style == "chat" else []
    return {
        "messages": [*turns, Message(role="user", content=asked.question)],
        "style": style,
        "seed": derive_seed(asked.seed, "chat", asked.turn),  # as `r1 sample` derives it
        "params": {
            "max_tokens": asked.max_tokens,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
        },
        "problem": None if question is None else question.problem,
    }


async def _answers(
    request: Request,
    pool: Pool,
    tasks: list[tuple[Speaker, Json]],
    device: str,
    question: Question | None,
) -> AsyncIterator[str]:
    """All models' events as lines, in the order in which they come."""
    events: asyncio.Queue[Json] = asyncio.Queue()

    async def answer(at: int, speaker: Speaker, told: Json) -> None:
        if speaker.fault is not None:
            events.put_nowait({"at": at, "fault": speaker.fault})
            events.put_nowait({"at": at, "end": True})
            return
        spec = await asyncio.to_thread(ModelSpec.of, speaker.folder, device)
        async with contextlib.aclosing(pool.ask(spec, told)) as stream:
            async for event in stream:
                events.put_nowait({**event, "at": at})

    running = [asyncio.create_task(answer(at, *task)) for at, task in enumerate(tasks)]
    for task in running:
        task.add_done_callback(lambda done: _tell_failure(done, running, events))
    try:
        if question is not None:
            yield _line({"truth": question.truth, "where": question.where})
        num_left, looked = len(tasks), time.monotonic()
        while num_left:
            if time.monotonic() - looked > _ALIVE_SECONDS:
                looked = time.monotonic()
                if await request.is_disconnected():
                    return
            try:
                event = await asyncio.wait_for(events.get(), _ALIVE_SECONDS)
            except TimeoutError:
                continue
            event.pop("id", None)
            num_left -= bool(event.get("end"))
            yield _line(event)
    finally:
        for task in running:
            task.cancel()


def _tell_failure(
    done: "asyncio.Task[None]", running: "list[asyncio.Task[None]]", events: "asyncio.Queue[Json]"
) -> None:
    if done.cancelled() or done.exception() is None:
        return
    _log.error("chat", exc_info=done.exception())
    at = running.index(done)
    fault = "No answer: a fault of r1kit. The terminal of `r1 ui` has its details."
    events.put_nowait({"at": at, "fault": fault})
    events.put_nowait({"at": at, "end": True})


def _line(event: Json) -> str:
    return json.dumps(event) + "\n"
