"""A client for any OpenAI-compatible server (vLLM, `transformers serve`, hosted): for judges and teachers.

Requests run in threads, a few at a time, within the recipe's rate limit. Failures that may pass (a lost
connection, a time-out, 429, 5xx, a truncated reply) are retried with exponential backoff and jitter, or after
the time that the server asks for (Retry-After); after the last retry the reply is None. Failures that can't
pass (wrong key, unknown model) raise a `RecipeError` immediately. A JSON schema for the reply is sent if the
server accepts it; after a refusal, requests go without. Not covered: caches (`replies`).
"""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import openai
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from pydantic import Field

from r1kit.config import Config
from r1kit.errors import RecipeError, StageHalted
from r1kit.judges.ledger import LONGEST_WAIT_SECONDS, BudgetSpent, Ledger
from r1kit.types import FinishReason, Message

# 401, 403: the key; 404: the model or the address. A retry would not change that.
_HOPELESS = (401, 403, 404)
# 400, 413, 422: this request only (its prompt is too long, or its schema is refused). Others may succeed.
_REFUSED = (400, 413, 422)
# Status codes of servers that do not support `response_format`; 501: not implemented.
_NO_SCHEMA = (400, 422, 501)
# If a server reports no usage, tokens are estimated from the number of characters.
_CHARACTERS_PER_TOKEN = 4

WhenSpent = Literal["halt", "missing"]


class ServerConfig(Config):
    """A chat-completions server and its settings.

    Only `model`, `temperature` and `max_tokens` determine the replies: changing other fields does not make a
    stage stale.
    """

    base_url: str = Field(exclude=True)  # such as http://localhost:8000/v1
    model: str  # the server's name for it
    # the environment variable with the key; local servers need none
    api_key_env: str = Field("OPENAI_API_KEY", exclude=True)
    temperature: float = Field(0.0, ge=0)  # 0 is greedy
    max_tokens: int = Field(4096, gt=0)  # of a reply, thinking included
    concurrency: int = Field(16, gt=0, exclude=True)  # requests in flight
    requests_per_minute: float | None = Field(None, gt=0, exclude=True)  # retries count; None: no limit
    retries: int = Field(4, ge=0, exclude=True)  # after the first attempt
    # doubled at each retry; the pause is random, between half of it and all of it
    backoff_seconds: float = Field(1.0, ge=0, exclude=True)
    timeout_seconds: float = Field(600.0, gt=0, exclude=True)  # of one request


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question. `sample` tells repetitions of it apart; `schema` is the JSON schema of the reply."""

    messages: tuple[Message, ...]
    temperature: float
    max_tokens: int
    sample: int = 0
    seed: int | None = None  # for servers that honour it
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The server's reply; `reasoning` if the server returns it apart from the content."""

    content: str
    reasoning: str | None
    finish_reason: FinishReason


OnReply = Callable[[int, ChatReply | None], None]


class ChatClient:
    """Asks one server.

    `counts`: `asked` questions, `retried` attempts, `failed` questions without a reply, and `over_budget`
    ones that the ledger refused. `when_spent` says what an exhausted budget does: "halt" raises
    `StageHalted`, "missing" makes the reply None.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        ledger: Ledger | None = None,
        when_spent: WhenSpent = "halt",
        structured: bool = True,
    ) -> None:
        self.config = config
        self.counts: Counter[str] = Counter()
        self._ledger = ledger or Ledger(requests_per_minute=config.requests_per_minute)
        self._when_spent = when_spent
        # whether the server accepts a schema; None: not known yet
        self._takes_schema: bool | None = None if structured else False
        self._first_schema = threading.Lock()
        self._lock = threading.Lock()
        # several threads may call `ask` at a time: the limit is for all of them together
        self._in_flight = threading.BoundedSemaphore(config.concurrency)
        self._client = openai.OpenAI(
            base_url=config.base_url,
            api_key=os.environ.get(config.api_key_env) or "none",
            timeout=config.timeout_seconds,
            max_retries=0,  # retried here, where an unreadable reply counts as well
        )

    @property
    def num_failed(self) -> int:
        """The number of requests without a reply."""
        return self.counts["failed"]

    def __call__(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        temperature: float | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[ChatReply | None]:
        """The reply to each conversation, in order; None for unavailable ones.

        `temperature` overrides the server's; `seeds` make servers that honour them reproducible.
        """
        heat = self.config.temperature if temperature is None else temperature
        numbers: Sequence[int | None] = seeds if seeds is not None else [None] * len(conversations)
        replies: list[ChatReply | None] = [None] * len(conversations)
        self.ask(
            [
                ChatRequest(tuple(messages), heat, self.config.max_tokens, seed=number)
                for messages, number in zip(conversations, numbers, strict=True)
            ],
            replies.__setitem__,
        )
        return replies

    def ask(self, requests: Sequence[ChatRequest], on_reply: OnReply) -> None:
        """Ask everything; `on_reply(i, reply)` is called as replies arrive, from several threads.

        Raises `RecipeError` if the server can't be used at all, `StageHalted` if the budget is spent.
        Replies in flight at that moment still arrive.
        """
        if not requests:
            return
        stop = threading.Event()  # ends pauses, which may take minutes, if the caller is stopped
        with ThreadPoolExecutor(max_workers=self.config.concurrency) as pool:
            futures = [
                pool.submit(self._ask, request, i, on_reply, stop) for i, request in enumerate(requests)
            ]
            _wait(pool, futures, stop)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, request: ChatRequest, index: int, on_reply: OnReply, stop: threading.Event) -> None:
        on_reply(index, self._reply(request, stop))

    def _reply(self, request: ChatRequest, stop: threading.Event) -> ChatReply | None:
        self._count("asked")
        for attempt in range(self.config.retries + 1):
            asked_to_wait = 0.0
            try:
                return self._attempt(request, stop, is_retry=attempt > 0)
            except BudgetSpent as spent:
                self._over_budget(spent)
                return None
            except openai.APIStatusError as error:
                if error.status_code in _HOPELESS:
                    raise RecipeError(
                        f"the server {self.config.base_url} refuses model {self.config.model!r}: "
                        f"{error.status_code} {error.message}. Fix its base_url or model, or the key in "
                        f"${self.config.api_key_env}"
                    ) from None
                if error.status_code in _REFUSED:
                    break
                asked_to_wait = retry_after(error.response.headers, time.time())
            except (openai.APIError, json.JSONDecodeError, _UnreadableReply):
                pass
            if asked_to_wait > LONGEST_WAIT_SECONDS or attempt == self.config.retries:
                break
            if asked_to_wait:
                self._ledger.pause(asked_to_wait)  # the server means every client
                # jitter: not everyone at the same moment
                _pause(self.config.backoff_seconds * random.random(), stop)
            else:
                _pause(self.config.backoff_seconds * 2**attempt * random.uniform(0.5, 1.0), stop)
        self._count("failed")
        return None

    def _over_budget(self, spent: BudgetSpent) -> None:
        self._count("over_budget")
        if self._when_spent == "halt":
            raise StageHalted(
                f"{self.config.model} at {self.config.base_url} has spent its budget: {spent}. Raise it and "
                'run again: the run resumes here and asks nothing twice. Or set when_spent = "missing" to '
                "continue without these judgments"
            )

    def _attempt(self, request: ChatRequest, stop: threading.Event, *, is_retry: bool) -> ChatReply:
        """One request, with its schema if the server accepts one; if it is refused, again without."""
        if request.schema is not None and self._takes_schema is None:
            # the first request finds out while the others wait, so that there is at most one refusal
            with self._first_schema:
                if self._takes_schema is None:
                    return self._try_schema(request, stop, is_retry=is_retry)
        return self._send(request, stop, with_schema=self._takes_schema is not False, is_retry=is_retry)

    def _try_schema(self, request: ChatRequest, stop: threading.Event, *, is_retry: bool) -> ChatReply:
        try:
            reply = self._send(request, stop, with_schema=True, is_retry=is_retry)
        except openai.APIStatusError as error:
            if error.status_code not in _NO_SCHEMA:
                raise
            # raises if it is also refused without: then the schema was not the reason
            reply = self._send(request, stop, with_schema=False, is_retry=True)
            self._takes_schema = False
            return reply
        self._takes_schema = True
        return reply

    def _send(
        self, request: ChatRequest, stop: threading.Event, *, with_schema: bool, is_retry: bool
    ) -> ChatReply:
        with self._in_flight:
            # book last: turns booked before a slow server answers would all come due at the same moment
            _pause(self._ledger.book(), stop)
            if is_retry:
                self._count("retried")
            completion = self._create(request, with_schema=with_schema)
        reply = _read(completion)
        self._ledger.add_tokens(_num_tokens(completion, request, reply))
        return reply

    def _create(self, request: ChatRequest, *, with_schema: bool) -> ChatCompletion:
        turns: list[ChatCompletionMessageParam] = []
        for message in request.messages:
            # openai has a separate type for each role
            turns.append({"role": message["role"], "content": message["content"]})  # type: ignore[misc,arg-type]
        schema: Any = openai.omit
        if with_schema and request.schema is not None:
            named = {"name": "judgment", "schema": dict(request.schema), "strict": True}
            schema = {"type": "json_schema", "json_schema": named}
        return self._client.chat.completions.create(
            model=self.config.model,
            messages=turns,
            temperature=request.temperature,
            max_tokens=request.max_tokens,
            # servers store seeds in 32 bits or so
            seed=openai.omit if request.seed is None else request.seed % 2**31,
            response_format=schema,
        )

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1


class _Stopped(Exception):
    """The caller no longer waits for this."""


def _pause(seconds: float, stop: threading.Event) -> None:
    if stop.wait(seconds):
        raise _Stopped


def _wait(pool: ThreadPoolExecutor, futures: Sequence[Future[None]], stop: threading.Event) -> None:
    try:
        # return as soon as one fails, even if others are still waiting
        for future in wait(futures, return_when=FIRST_EXCEPTION).done:
            future.result()
    except BaseException:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """The seconds to wait by a Retry-After header, a number or a date; 0 if it has none."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError):
        return 0.0


class _UnreadableReply(Exception):
    """A reply that is not a valid chat completion."""


def _read(completion: ChatCompletion) -> ChatReply:
    # the openai client does not validate types: a server may send anything
    choice = next(iter(getattr(completion, "choices", None) or ()), None)
    message = getattr(choice, "message", None)
    content = getattr(message, "content", None)
    if not isinstance(content, str):
        raise _UnreadableReply
    # "reasoning_content": DeepSeek's own API; "reasoning": vLLM with a reasoning parser
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    return ChatReply(
        content=content,
        reasoning=reasoning if isinstance(reasoning, str) else None,
        finish_reason="length" if getattr(choice, "finish_reason", None) == "length" else "stop",
    )


def _num_tokens(completion: ChatCompletion, request: ChatRequest, reply: ChatReply) -> int:
    """The cost of the exchange, as reported by the server, else estimated."""
    usage = getattr(completion, "usage", None)
    reported = getattr(usage, "total_tokens", None)
    if isinstance(reported, int):
        return reported
    texts = [*(message["content"] for message in request.messages), reply.content, reply.reasoning or ""]
    return sum(map(len, texts)) // _CHARACTERS_PER_TOKEN
