"""What one program of a code problem may use. Beside the data, as time limits belong to problems."""

from pydantic import Field

from r1kit.config import Config


class CodeLimits(Config):
    """Limits of one test of one program, over all its processes together; of the compiler where it says so.

    In a recipe they are the table [problems.<name>.limits]; a problem of its own has `metadata.limits`.
    """

    cpu_seconds: float = Field(
        4.0, gt=0, le=3600
    )  # what a time-out should mean: independent of a busy machine
    wall_seconds: float = Field(
        12.0, gt=0, le=3600
    )  # for those that sleep; thrice the CPU's for a busy machine
    compile_seconds: float = Field(30.0, gt=0, le=3600)  # wall clock; CPU as much
    memory_mb: int = Field(1024, ge=64)  # resident, and of each process what it may address
    work_mb: int = Field(64, ge=1)  # the work folder, in memory too
    files: int = Field(4096, ge=16)  # in the work folder
    output_kb: int = Field(1024, ge=1, le=65_536)  # of stdout, of stderr and of a returned value, each
    processes: int = Field(32, ge=2, le=4096)  # and threads, together; node alone has eleven
