"""A judge's table in a recipe: `[judges.<name>]`, which stages refer to by name, or a stage's own table.

    [judges.grader]
    base_url = "http://localhost:8000/v1"      # left out: the model is sampled here, by the local engine
    model = "Qwen/Qwen3-32B"

    [stages.rejection]
    judge = "grader"

Only `model`, `temperature` and `max_tokens` determine the judgments. Changing other fields (another address,
a larger budget) does not make a stage stale, and they are not part of the cache key of replies.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from r1kit.config import Config, suggest
from r1kit.judges.chat_client import ServerConfig, WhenSpent
from r1kit.judges.ledger import Ledger


class JudgeConfig(Config):
    """A judge: a model behind a server or, without `base_url`, a stage's model or a folder sampled here."""

    model: str  # the server's name for it; sampled here: a stage, `base`, a folder or a hub name
    base_url: str | None = Field(None, exclude=True)  # of the server; none: the model is sampled here
    api_key_env: str = Field("OPENAI_API_KEY", exclude=True)  # the environment variable with the key
    # unpublished; at 0 most of a judge's order bias is visible; retries of unreadable replies use 0.7
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(4096, gt=0)  # per reply, thinking included
    # "auto": ask for JSON by schema, and do without it if the server refuses; "off": never ask
    structured: Literal["auto", "off"] = Field("auto", exclude=True)
    concurrency: int = Field(16, gt=0, exclude=True)  # requests in flight, over all ranks
    requests_per_minute: float | None = Field(None, gt=0, exclude=True)  # over all ranks; retries count
    retries: int = Field(4, ge=0, exclude=True)  # after the first attempt
    backoff_seconds: float = Field(1.0, ge=0, exclude=True)  # doubled at each retry, with random jitter
    timeout_seconds: float = Field(600.0, gt=0, exclude=True)  # of one request
    # What this judge may cost in the entire run: all ranks, restarts included. None: no limit.
    budget_requests: int | None = Field(None, gt=0, exclude=True)  # retries count
    budget_tokens: int | None = Field(None, gt=0, exclude=True)  # prompts and replies, as the server reports
    # "halt" ends the run, which can be resumed with a larger budget; "missing": such judgments are None
    when_spent: WhenSpent = Field("halt", exclude=True)

    @property
    def is_local(self) -> bool:
        """Whether the model is sampled in this process."""
        return self.base_url is None

    def ledger(self, path: Path) -> Ledger:
        """The judge's ledger in a file, with its limits."""
        return Ledger(
            path,
            requests_per_minute=self.requests_per_minute,
            max_requests=self.budget_requests,
            max_tokens=self.budget_tokens,
        )

    def server(self, *, num_ranks: int = 1) -> ServerConfig:
        """The server's settings for its client, on one of several ranks that ask at the same time."""
        assert self.base_url is not None
        return ServerConfig(
            base_url=self.base_url,
            model=self.model,
            api_key_env=self.api_key_env,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            concurrency=max(1, self.concurrency // num_ranks),
            requests_per_minute=self.requests_per_minute,
            retries=self.retries,
            backoff_seconds=self.backoff_seconds,
            timeout_seconds=self.timeout_seconds,
        )

    @model_validator(mode="after")
    def _server_settings_have_a_server(self) -> Self:
        set_here = self.model_fields_set & {
            "api_key_env",
            "structured",
            "concurrency",
            "requests_per_minute",
            "retries",
            "backoff_seconds",
            "timeout_seconds",
        }
        if self.is_local and set_here:
            raise ValueError(
                f"`{min(set_here)}` is for a judge behind a server: add its base_url, or drop it (without "
                "base_url the model is sampled in this process)"
            )
        return self


def _named(value: Any, info: ValidationInfo) -> Any:
    """The judge of this name; the recipe's judges are in the validation context."""
    if not isinstance(value, str):
        return value
    judges: Mapping[str, JudgeConfig] = (info.context or {}).get("judges", {})
    if value not in judges:
        advice = suggest(value, list(judges)) if judges else f"add a table [judges.{value}]."
        raise ValueError(f"there is no such judge; {advice}")
    return judges[value]


JudgeRef = Annotated[JudgeConfig, BeforeValidator(_named, json_schema_input_type=str | JudgeConfig)]
"""A judge in a stage's table: the name of one in [judges], or a table of its own."""
