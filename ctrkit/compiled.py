"""Loops that NumPy has no words for, compiled by numba on first use."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from ctrkit.shapes import Shapes

Given = ParamSpec("Given")
Found = TypeVar("Found")

_compiling = threading.Lock()
# Shapes that are remembered of each kernel.
_MOST_SHAPES = 1024


def kernel(
    signature: str | Callable[[], Any], shapes: str, *, reorder: bool = False, version: str = ""
) -> Callable[[Callable[Given, Found]], Callable[Given, Found]]:
    """Compile for arguments of the given types on first use, from a cache where possible.

    The cache is beside the function's file or in the user's folder. It is valid as long as that file does not
    change. So a kernel should be one plain function that calls no functions of other files.

    Args:
        signature: numba's signature, such as "void(f8[::1], i8)", or a function that returns it.
        shapes: shapes of the arguments, in the form of `ctrkit.shapes.Shapes`. They are checked at every
            call, because the loop itself checks no bounds. "" for a kernel whose callers check them.
        reorder: whether the compiler may change the order of sums, so that it can vectorise them.
        version: version of the functions in other files that the kernel calls; a change compiles it again.
    """
    options: Any = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    if reorder:
        options["fastmath"] = {"reassoc", "contract", "nsz"}

    def lazily(function: Callable[Given, Found]) -> Callable[Given, Found]:
        ready: list[Callable[Given, Found]] = []
        names = tuple(inspect.signature(function).parameters)
        needed = Shapes(shapes) if shapes else None
        fitting: set[tuple[Any, ...]] = set()

        @functools.wraps(function)
        def call(*arguments: Given.args, **named: Given.kwargs) -> Found:
            if not ready:
                with _compiling:  # by the first of several threads
                    if not ready:
                        ready.append(_compile(signature, function, version, options))
            if needed is not None:
                # Most calls have shapes that were checked before; a new check takes longer than many loops.
                given = tuple([getattr(one, "shape", None) for one in arguments])
                if named or given not in fitting:
                    needed.check(function.__name__, {**dict(zip(names, arguments, strict=False)), **named})
                    if not named and len(fitting) < _MOST_SHAPES:
                        fitting.add(given)
            return ready[0](*arguments, **named)

        return call

    return lazily


def _compile(signature: Any, function: Any, version: str, options: Any) -> Any:
    # numba takes half a second to import, and many commands need no kernel.
    from numba import njit

    signature = signature() if callable(signature) else signature
    if version:
        function.__qualname__ = f"{function.__name__}_{version}"
    try:
        return njit(signature, cache=True, **options)(function)
    except Exception:  # the cache cannot be written or is damaged; an error of ours is raised again
        return njit(signature, **options)(function)
