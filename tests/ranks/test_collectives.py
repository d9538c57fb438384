import pytest

from r1kit.ranks import collectives


@pytest.mark.parametrize(
    ("num_ranks", "num_tokens", "budget"),
    [
        (1, 1_000, 2_000),  # alone there is nobody to wait
        (2, 1_000, 500),
        (2, 4_000, 2_000),
        (2, 13_000, 1_625),  # 6,500 for each: four micro-batches, not three and a fourth of 500
        (4, 3, 1),
    ],
)
def test_every_rank_gets_as_many_tokens(monkeypatch, num_ranks, num_tokens, budget) -> None:
    monkeypatch.setattr(collectives, "world_size", lambda: num_ranks)
    assert collectives.even_budget(num_tokens, 2_000) == budget
