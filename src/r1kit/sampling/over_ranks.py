"""Let all ranks sample for work that rank 0 does alone: data stages and evaluations.

Rank 0 calls `iter_shared` where it would call `iter_samples`. The other ranks stay in `help_sampling` until
it calls `dismiss_helpers`. A request's sample does not depend on which rank draws it. A single process shares
nothing and dismisses nobody.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from r1kit.model.loading import load_model, load_tokenizer
from r1kit.ranks import collectives
from r1kit.sampling.engine import RolloutEngine, SampleRequest, SampleResult, iter_samples
from r1kit.sampling.local import make_engine

# Requests per round, as a multiple of what the ranks' engines hold. Helpers report at the end of a round:
# longer rounds lose more in a crash, shorter ones let the engines run empty more often.
_FILLS_PER_ROUND = 4


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What another rank needs to open the same engine."""

    path: str
    dtype: str
    device: str
    max_rows: int

    def open(self) -> RolloutEngine:
        """Load the model and make its engine."""
        model = load_model(self.path, dtype=self.dtype, device=self.device)
        return make_engine(model, load_tokenizer(self.path), max_rows=self.max_rows)


def iter_shared(
    engine: RolloutEngine, spec: EngineSpec, requests: Sequence[SampleRequest]
) -> Iterator[list[SampleResult]]:
    """Sample every request; yield each result once, in any order. `engine` is this rank's, built from `spec`.

    Exhaust this iterator, because the other ranks wait for its rounds.
    """
    num_ranks = collectives.world_size()
    size = _FILLS_PER_ROUND * spec.max_rows * num_ranks if num_ranks > 1 else max(1, len(requests))
    for start in range(0, len(requests), size):
        part = requests[start : start + size]
        collectives.broadcast((spec, part))  # received in `help_sampling`
        yield from iter_samples(engine, _own_share(part))
        _, *others = collectives.gather(_NOTHING)
        yield from filter(None, others)


def help_sampling() -> None:
    """Sample what rank 0 asks for until it dismisses the helpers."""
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
    """Make the other ranks return from `help_sampling`."""
    collectives.broadcast(_NO_MORE)


_NOTHING: list[SampleResult] = []
_NO_MORE: tuple[EngineSpec, Sequence[SampleRequest]] | None = None


def _own_share(requests: Sequence[SampleRequest]) -> list[SampleRequest]:
    """This rank's requests. Ranks are dealt entire prompts, because an engine shares a prompt's prefill."""
    prompts = dict.fromkeys(request.prompt_token_ids for request in requests)
    own = set(collectives.shard(list(prompts)))
    return [request for request in requests if request.prompt_token_ids in own]
