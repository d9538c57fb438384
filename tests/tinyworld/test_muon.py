import torch
from torch import nn

from r1kit.tinyworld.muon import Muon, orthogonalized


def test_singular_values_come_near_one_and_directions_stay():
    matrices = torch.randn(3, 12, 40, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    found = u.mT @ orthogonalized(matrices) @ v.mT  # in the matrices' own directions: a diagonal
    diagonal = found.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.3
    assert (found - torch.diag_embed(diagonal)).abs().max() < 1e-4
    assert torch.allclose(orthogonalized(matrices.mT), orthogonalized(matrices).mT, atol=1e-5)


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
