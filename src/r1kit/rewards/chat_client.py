"""A client of any OpenAI-compatible server (vLLM, `transformers serve`, hosted): for judges and teachers.

Requests run in threads, a few at a time. What may pass - a lost connection, a time-out, 429, 5xx, a reply
cut short - is tried again with growing pauses, and is None at last; what can't pass (wrong key, no such
model) is a `RecipeError` at once. Not covered: rate limits and caches.
"""

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import openai
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from pydantic import Field

from r1kit.config import Config
from r1kit.errors import RecipeError
from r1kit.types import FinishReason, Message

# 401, 403: the key; 404: the model or the address. Asking again changes nothing.
_HOPELESS = (401, 403, 404)
# 400, 413, 422: this one request (too long a prompt, say). Others may well succeed.
_REFUSED = (400, 413, 422)


class ServerConfig(Config):
    """A chat-completions server, and how it is asked."""

    base_url: str  # such as http://localhost:8000/v1
    model: str  # the name that the server knows
    api_key_env: str = "OPENAI_API_KEY"  # the environment variable with the key; local servers need none
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(4096, gt=0)
    concurrency: int = Field(16, gt=0)
    retries: int = Field(4, ge=0)  # after the first attempt
    backoff_seconds: float = Field(1.0, ge=0)  # doubled at each retry
    timeout_seconds: float = Field(600.0, gt=0)


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What the server wrote; `reasoning` where it sends that apart from the content."""

    content: str
    reasoning: str | None
    finish_reason: FinishReason


class ChatClient:
    """Asks one server. `num_failed` counts the requests that could not be had."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.num_failed = 0
        self._client = openai.OpenAI(
            base_url=config.base_url,
            api_key=os.environ.get(config.api_key_env) or "none",
            timeout=config.timeout_seconds,
            max_retries=0,  # retried here, where an unreadable reply counts as well
        )

    def __call__(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        temperature: float | None = None,
        seeds: Sequence[int] | None = None,
    ) -> list[ChatReply | None]:
        """The reply to each conversation, in order; None where none could be had.

        `temperature` overrides the server's; `seeds` make servers that honour them reproducible.
        """
        if not conversations:
            return []
        heat = self.config.temperature if temperature is None else temperature
        numbers: Sequence[int | None] = seeds if seeds is not None else [None] * len(conversations)
        with ThreadPoolExecutor(max_workers=self.config.concurrency) as pool:
            futures = [
                pool.submit(self._ask, messages, heat, number)
                for messages, number in zip(conversations, numbers, strict=True)
            ]
            try:
                replies = [future.result() for future in futures]
            except RecipeError:
                pool.shutdown(cancel_futures=True)
                raise
        self.num_failed += sum(reply is None for reply in replies)
        return replies

    def _ask(self, messages: Sequence[Message], temperature: float, seed: int | None) -> ChatReply | None:
        for attempt in range(self.config.retries + 1):
            if attempt:
                time.sleep(self.config.backoff_seconds * 2 ** (attempt - 1))
            try:
                return _read(self._create(messages, temperature, seed))
            except openai.APIStatusError as error:
                if error.status_code in _HOPELESS:
                    raise RecipeError(
                        f"the server {self.config.base_url} refuses model {self.config.model!r}: "
                        f"{error.status_code} {error.message}. Mend its base_url or model, or the key in "
                        f"${self.config.api_key_env}"
                    ) from None
                if error.status_code in _REFUSED:
                    return None
            except (openai.APIError, json.JSONDecodeError, _UnreadableReply):
                continue
        return None

    def _create(self, messages: Sequence[Message], temperature: float, seed: int | None) -> ChatCompletion:
        turns: list[ChatCompletionMessageParam] = []
        for message in messages:
            # openai types each role apart
            turns.append({"role": message["role"], "content": message["content"]})  # type: ignore[misc,arg-type]
        return self._client.chat.completions.create(
            model=self.config.model,
            messages=turns,
            temperature=temperature,
            max_tokens=self.config.max_tokens,
            # servers keep seeds in 32 bits or so
            seed=openai.omit if seed is None else seed % 2**31,
        )


class _UnreadableReply(Exception):
    """A reply that came, but not as chat completions are."""


def _read(completion: ChatCompletion) -> ChatReply:
    # the client checks no types: a server may send anything
    choice = next(iter(getattr(completion, "choices", None) or ()), None)
    message = getattr(choice, "message", None)
    content = getattr(message, "content", None)
    if not isinstance(content, str):
        raise _UnreadableReply
    # DeepSeek's own interface, and vLLM's with a reasoning parser
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    return ChatReply(
        content=content,
        reasoning=reasoning if isinstance(reasoning, str) else None,
        finish_reason="length" if getattr(choice, "finish_reason", None) == "length" else "stop",
    )
