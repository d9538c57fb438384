"""The resource limits of a code problem's program, which are part of the data: problems set time limits."""

from pydantic import Field

from r1kit.config import Config


class CodeLimits(Config):
    """Limits for one test of one program, over all its processes; for the compiler where stated.

    In a recipe, they are the table [problems.<name>.limits]; a problem may have its own `metadata.limits`.
    """

    # The limit that a time-out should mean: it does not depend on how busy the machine is.
    cpu_seconds: float = Field(default=4.0, gt=0, le=3600)
    # For programs that sleep. Far above the CPU limit, because training keeps machines busy.
    wall_seconds: float = Field(default=30.0, gt=0, le=3600)
    compile_seconds: float = Field(
        default=30.0, gt=0, le=3600
    )  # the compiler's CPU; four times that, wall clock
    memory_mb: int = Field(default=1024, ge=64)  # resident, and what each process may address
    work_mb: int = Field(default=64, ge=1)  # the work folder, which is in memory too
    files: int = Field(default=4096, ge=16)  # in the work folder
    output_kb: int = Field(default=1024, ge=1, le=65_536)  # of stdout, stderr and a returned value, each
    processes: int = Field(default=32, ge=2, le=4096)  # with threads; node alone has eleven
