"""What the recipe will run on: the machine at hand, or GPUs that somebody says they have elsewhere."""

from dataclasses import dataclass

import torch

from r1kit.errors import UserError
from r1kit.pipeline.memory import device_bytes, format_bytes, machine_bytes
from r1kit.pipeline.starting.wishes import Device, Wishes

# What is left to the libraries, the system and whoever else is on the machine.
_USABLE = {"cpu": 0.75, "gpu": 0.9}
# Where nobody says how large the GPU is: the smallest that this field trains on.
_USUAL_GPU_BYTES = 24 * 2**30


@dataclass(frozen=True, slots=True)
class Hardware:
    """Processes, and the memory of the device of each."""

    device: Device
    num: int
    num_bytes: int
    is_here: bool  # else it is somewhere else, and this machine can't be asked

    @property
    def usable_bytes(self) -> int:
        """What a stage may take."""
        return int(self.num_bytes * _USABLE[self.device])

    @property
    def dtype(self) -> str:
        """What `dtype = "auto"` will be there."""
        return "bfloat16" if self.device == "gpu" else "float32"

    @property
    def avoids_gpu(self) -> bool:
        """Whether the CPU is wished for where there is a GPU."""
        return self.device == "cpu" and torch.cuda.is_available()

    def __str__(self) -> str:
        size = format_bytes(self.num_bytes)
        if self.device == "cpu":
            return f"this machine's CPU ({size})"
        many = f"{self.num} GPUs ({size} each)" if self.num > 1 else f"one GPU ({size})"
        return many if self.is_here else f"{many}, not in this machine"


def look_at_hardware(wishes: Wishes) -> Hardware:
    """What is wished for, else what is here. Raises `UserError` for what contradicts itself."""
    is_gpu_here = torch.cuda.is_available()
    device = wishes.device or ("gpu" if is_gpu_here or wishes.gpus or wishes.gpu_memory else "cpu")
    if device == "cpu":
        if wishes.gpus or wishes.gpu_memory:
            flag = "--gpus" if wishes.gpus else "--gpu-memory"
            raise UserError(f"{flag} is for --device gpu; drop it, or say --device gpu")
        return Hardware("cpu", 1, machine_bytes(), True)
    if wishes.gpu_memory is not None:
        num_bytes = int(wishes.gpu_memory * 2**30)
    else:
        num_bytes = (device_bytes("cuda") if is_gpu_here else None) or _USUAL_GPU_BYTES
    return Hardware("gpu", wishes.gpus or 1, num_bytes, is_gpu_here)
