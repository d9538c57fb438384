import pytest
import torch

from r1kit.sampling.local import masks
from r1kit.sampling.local.masks import MASKED, attend_within, mask_before, mask_between
from tests.bounds import rounding_error

pytestmark = pytest.mark.numerical


def visible(mask: torch.Tensor) -> list:
    """1 where the mask is open; it has to be MASKED everywhere else."""
    is_open = mask == 0
    assert torch.equal(mask, torch.where(is_open, 0.0, torch.tensor(MASKED)))
    return is_open.int().tolist()


def test_a_mask_is_open_from_its_start_to_before_its_end() -> None:
    mask = mask_between(torch.tensor([1, -3]), torch.tensor([3, 1]), 4, torch.float32)
    assert visible(mask) == [[0, 1, 1, 0], [1, 0, 0, 0]]
    assert visible(mask_between(None, torch.tensor([2]), 3, torch.float32)) == [[1, 1, 0]]


def test_rows_of_one_prompt_each_have_their_own_start() -> None:
    mask = torch.tensor([[[0.0, 0, 0, MASKED]]])
    rows = mask_before(mask, torch.tensor([[-2, 1, 3]]))
    assert visible(rows) == [[[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]]


@pytest.mark.parametrize("window", [1, 3, 10, 30])
def test_attention_within_a_window_is_the_softmax_over_it(
    monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(masks, "_CHUNK", 7)  # 7, 7 and 6 queries
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 20, 8), torch.randn(2, 2, 20, 8), torch.randn(2, 2, 20, 8)
    out = attend_within(q, k, v, window)
    # scores of eight products, then softmax and values over the window
    bound = rounding_error(8 + 2 * window, 8 * float(v.abs().max()))
    for position in range(20):
        seen = slice(max(0, position - window + 1), position + 1)
        for head in range(4):
            scores = (k[:, head // 2, seen] @ q[:, head, position, :, None]).squeeze(-1) * 8**-0.5
            expected = (scores.softmax(-1)[:, None] @ v[:, head // 2, seen]).squeeze(1)
            assert torch.allclose(out[:, head, position], expected, rtol=0, atol=bound)
