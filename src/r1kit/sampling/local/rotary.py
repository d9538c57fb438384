"""Rotary position embedding as one complex product per head, with the model's own frequencies."""

import copy

import torch
from torch import Tensor, nn

_FIRST_TABLE = 1024  # positions; the table at least doubles for a longer text


class Rotary:
    """A growing table of exp(i * position * frequency), scaled as in the model."""

    def __init__(self, module: nn.Module, *, max_positions: int, device: torch.device) -> None:
        """`module` is the model's rotary embedding: called with positions, it returns cos and sin."""
        self._module = copy.deepcopy(module).to(device)
        self._max_positions = max_positions
        self._device = device
        self._table = torch.empty(0)
        self.reserve(min(_FIRST_TABLE, max_positions))

    @torch.inference_mode()
    def reserve(self, num_positions: int) -> None:
        """Make the table cover positions below `num_positions`."""
        if self._table.shape[0] >= num_positions:
            return
        length = min(self._max_positions, max(num_positions, 2 * self._table.shape[0]))
        positions = torch.arange(length, device=self._device)[None]
        cos, sin = self._module(torch.zeros(1, dtype=torch.float32, device=self._device), positions)
        half = cos.shape[-1] // 2  # the second half repeats the first
        self._table = torch.complex(cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous())

    def at(self, positions: Tensor) -> Tensor:
        """complex64 [N, 1, 1, D / 2] for positions [N], which must have been reserved."""
        return self._table.index_select(0, positions)[:, None, None]


def rotate_(x: Tensor, cis: Tensor) -> None:
    """Rotate x [N, K, heads, D], whose pairs are adjacent, by cis [N, 1, 1, D / 2], in place.

    As with `decoder._silu_`, the complex product's vector and scalar code round differently, which shows at
    thread boundaries with three or more threads. There it is split into steps.
    """
    pairs = torch.unflatten(x, -1, (-1, 2))  # (real, imaginary); `weights` put a rotation's halves there
    if x.dtype != torch.float32:
        rotated = torch.view_as_complex(pairs.float().contiguous()) * cis
        pairs.copy_(torch.view_as_real(rotated))
    elif x.device.type != "cpu" or torch.get_num_threads() <= 2:
        torch.view_as_complex(pairs).mul_(cis)
    else:
        real, imag = pairs.unbind(-1)
        rotated_imag = real * cis.imag + imag * cis.real
        torch.sub(real * cis.real, imag * cis.imag, out=real)
        imag.copy_(rotated_imag)
