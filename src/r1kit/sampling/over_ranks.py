"""Sampling for what one rank does alone - data stages, evaluations - with the help of all ranks.

The first rank samples with `iter_shared` as it would with `iter_samples`; meanwhile the others are in
`help_sampling`, until it calls `dismiss_helpers`. What is sampled for a request does not depend on which rank
does it. In one process nothing is shared, and nobody needs to be dismissed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from r1kit.model.loading import load_model, load_tokenizer
from r1kit.ranks import collectives
from r1kit.sampling.engine import RolloutEngine, SampleRequest, SampleResult, iter_samples
from r1kit.sampling.local import make_engine

# Requests of a round, in fills of the ranks' engines. What helpers sampled is known at a round's end: longer
# rounds lose more to a crash, shorter ones let engines run empty more often.
_FILLS_PER_ROUND = 4


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What it takes to open the same engine on another rank."""

    path: str
    dtype: str
    device: str
    max_rows: int

    def open(self) -> RolloutEngine:
        """The engine, with the model's weights."""
        model = load_model(self.path, dtype=self.dtype, device=self.device)
        return make_engine(model, load_tokenizer(self.path), max_rows=self.max_rows)


def iter_shared(
    engine: RolloutEngine, spec: EngineSpec, requests: Sequence[SampleRequest]
) -> Iterator[list[SampleResult]]:
    """Sample every request; `engine` is this rank's own, of `spec`. Results come in any order, each once.

    To be gone through to its end: the other ranks wait for the rest.
    """
    num_ranks = collectives.world_size()
    size = _FILLS_PER_ROUND * spec.max_rows * num_ranks if num_ranks > 1 else max(1, len(requests))
    for start in range(0, len(requests), size):
        part = requests[start : start + size]
        collectives.broadcast((spec, part))
        yield from iter_samples(engine, _own_share(part))
        _, *others = collectives.gather(_NOTHING)
        yield from filter(None, others)


def help_sampling() -> None:
    """Sample what the first rank asks for, until it has no more to ask."""
    engine: RolloutEngine | None = None
    opened: EngineSpec | None = None
    while (asked := collectives.broadcast(_NO_MORE)) is not None:
        spec, requests = asked
        if engine is None or spec != opened:
            if engine is not None:
                engine.close()
            engine, opened = spec.open(), spec
        own = iter_samples(engine, _own_share(requests))
        collectives.gather([result for results in own for result in results])
    if engine is not None:
        engine.close()


def dismiss_helpers() -> None:
    """Let the other ranks return from `help_sampling`."""
    collectives.broadcast(_NO_MORE)


_NOTHING: list[SampleResult] = []
_NO_MORE: tuple[EngineSpec, Sequence[SampleRequest]] | None = None


def _own_share(requests: Sequence[SampleRequest]) -> list[SampleRequest]:
    """This rank's requests: prompts are dealt out in turn, for the engine shares a prompt's work."""
    prompts = dict.fromkeys(request.prompt_token_ids for request in requests)
    own = set(collectives.shard(list(prompts)))
    return [request for request in requests if request.prompt_token_ids in own]
