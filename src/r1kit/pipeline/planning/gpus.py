"""Named GPUs: memory, its bandwidth, and arithmetic in bfloat16, by their vendor's data sheets.

Dense numbers: data sheets print those with structured sparsity, twice as high, in larger type.
"""

from dataclasses import dataclass

from r1kit.config import suggest
from r1kit.errors import UserError


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device: bytes of memory, bytes a second from it, dense bfloat16 operations a second."""

    name: str
    memory: float
    bandwidth: float
    flops: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        # NVIDIA B200, HGX data sheet: 180 GB, 8 TB/s, 2.25 PFLOP/s
        Gpu("B200", 180e9, 8.0e12, 2250e12),
        # NVIDIA H200 SXM data sheet: 141 GB HBM3e, 4.8 TB/s, 989 TFLOP/s (1,979 sparse)
        Gpu("H200", 141e9, 4.8e12, 989e12),
        # NVIDIA H100 SXM data sheet: 80 GB HBM3, 3.35 TB/s, 989 TFLOP/s
        Gpu("H100", 80e9, 3.35e12, 989e12),
        # NVIDIA H800 SXM: an H100 with 400 GB/s of NVLink in place of 900 (DeepSeek-V3, 2412.19437, 3.1)
        Gpu("H800", 80e9, 3.35e12, 989e12),
        # NVIDIA A100 80GB SXM data sheet: 2,039 GB/s, 312 TFLOP/s
        Gpu("A100", 80e9, 2.039e12, 312e12),
        # NVIDIA L40S data sheet: 48 GB GDDR6, 864 GB/s, 362 TFLOP/s (733 sparse)
        Gpu("L40S", 48e9, 0.864e12, 362e12),
        # NVIDIA Ada architecture white paper, RTX 4090: 24 GB, 1,008 GB/s, 165.2 TFLOP/s with float32 sums
        Gpu("RTX 4090", 24e9, 1.008e12, 165.2e12),
    )
}


def find_gpu(name: str) -> Gpu:
    """The GPU of this name; spaces, hyphens and case do not matter. A `UserError` names a near miss."""
    by_plain = {_plain(known): gpu for known, gpu in GPUS.items()}
    by_plain["4090"] = GPUS["RTX 4090"]
    if (gpu := by_plain.get(_plain(name))) is not None:
        return gpu
    raise UserError(f"--gpu {name}: no such GPU in the table; {suggest(name, list(GPUS))}")


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("-", "").replace("_", "")
