"""Parts of a job on torch's own threads.

After each parallel operation OpenMP's threads spin for some milliseconds, in the hope of more. A second pool,
be it Python's or numba's, would share the cores with them whenever a kernel runs between two matrix products.
So kernels run on OpenMP's threads too. `GOMP_parallel` is what a compiler makes of `#pragma omp parallel`; it
is looked up in the runtime that torch itself is linked with. Where there is none, ordinary threads do.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_Team = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def in_parallel(work: Callable[[int], None], parts: int) -> None:
    """Call `work(part)` once for each part, on at most `torch.get_num_threads()` threads.

    Threads take parts as they come, so that which thread does what is left to chance: parts must not
    write to the same place. `work` should release the GIL.

    Raises:
        whatever `work` raises, after the other threads have come to an end.
    """
    threads = min(parts, torch.get_num_threads())
    waiting = iter(range(parts))  # shared; the GIL sees to it that each part is taken once
    failures: list[BaseException] = []

    def take(_: Any = None) -> None:
        try:
            while (part := next(waiting, None)) is not None:
                work(part)
        except BaseException as error:  # would be lost on its way through C
            failures.append(error)

    openmp = _openmp()
    if threads < 2:
        take()
    elif openmp is not None:
        openmp.GOMP_parallel(_Team(take), None, ctypes.c_uint(threads), ctypes.c_uint(0))
    else:
        others = [threading.Thread(target=take) for _ in range(threads - 1)]
        for thread in others:
            thread.start()
        take()
        for thread in others:
            thread.join()
    if failures:
        raise failures[0]


@functools.cache
def _openmp() -> ctypes.CDLL | None:
    """torch's library, through which the symbols of its OpenMP runtime are found."""
    for library in sorted((Path(torch.__file__).parent / "lib").glob("*torch_cpu.*")):
        try:
            found = ctypes.CDLL(str(library))
            found.GOMP_parallel  # noqa: B018  (looks the symbol up)
        except (OSError, AttributeError):
            continue
        return found
    return None
