"""Parts of a job on torch's own threads.

After each parallel operation OpenMP's threads spin for some milliseconds and wait for more work. A second
pool of threads (Python's or numba's) would compete with them for the cores whenever a kernel runs between two
matrix products. So kernels run on OpenMP's threads too. Compilers turn `#pragma omp parallel` into calls of
`GOMP_parallel`, which is looked up in torch's own runtime. Without it, ordinary threads are used.
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

    Any thread may take any part, so parts must not write to the same memory. `work` should release the GIL.

    Raises:
        BaseException: an error of `work`, after the other threads have ended.
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
