import pytest
import torch
from torch import nn

from r1kit.tinyworld.muon import Muon, orthogonalized
from tests.bounds import rounding_error

pytestmark = pytest.mark.numerical


def test_singular_values_come_near_one_and_directions_stay():
    # in float64: each of the five steps makes the rounding of a small singular value up to 3.4 times larger
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 12, 40, generator=generator, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    found = u.mT @ orthogonalized(matrices) @ v.mT  # in the matrices' own directions: a diagonal
    diagonal = found.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.3
    assert (found - torch.diag_embed(diagonal)).abs().max() < 1e-9
    exact = orthogonalized(matrices)
    torch.testing.assert_close(orthogonalized(matrices.mT), exact.mT, rtol=0, atol=1e-9)
    # in float32: three products of 40 terms a step
    bound = 3.4**5 * rounding_error(5 * 3 * 40, 1.0)
    torch.testing.assert_close(orthogonalized(matrices.float()).double(), exact, rtol=0, atol=bound)


def test_three_steps_are_those_of_torch_but_for_its_rounding():
    torch.manual_seed(1)
    shapes = [(16, 16), (48, 16), (16, 48), (16, 16)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    start = [p.detach().clone() for p in ours]
    mine, reference = Muon(ours, lr=0.1), torch.optim.Muon(theirs, lr=0.1, momentum=0.95, weight_decay=0.0)
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        mine.step()
        reference.step()
    for one, other, first in zip(ours, theirs, start, strict=True):
        moved, expected = one - first, other - first
        # bfloat16 has eight bits
        assert (moved - expected).norm() < 0.05 * expected.norm()
