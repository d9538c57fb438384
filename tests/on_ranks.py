"""Several gloo ranks in tests: forked, so that nothing is imported again, and found through a file."""

import multiprocessing
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from r1kit.verify.math_pool import shared_pool


def on_ranks(folder: Path, function: Callable[..., None], *arguments: Any, num_ranks: int = 2) -> None:
    """Run `function(*arguments)` on each rank; raises where any fails. `folder` takes the meeting point."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=_rank_main, args=(rank, num_ranks, folder, function, arguments))
        for rank in range(num_ranks)
    ]
    for process in ranks:
        process.start()
    # one that fails closes its connections, which ends those that wait for it
    for process in ranks:
        process.join()
    faults = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("rank*.error"))]
    assert not faults, "\n".join(faults)
    assert [process.exitcode for process in ranks] == [0] * num_ranks


def _rank_main(
    rank: int, num_ranks: int, folder: Path, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    shared_pool.cache_clear()  # its workers are the parent's, and so are the pipes to them
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=num_ranks
    )
    try:
        function(*arguments)
    except BaseException:
        (folder / f"rank{rank}.error").write_text(traceback.format_exc(), encoding="utf-8")
        raise
    finally:
        torch.distributed.destroy_process_group()
