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
    """Compile for arguments of the given types on first use, from the cache where that is possible.

    The cache lies beside the function's file, or in the user's folder, and is taken as long as that one file
    is the same. So a kernel is best one plain function that calls no other.

    Args:
        signature: numba's, such as "void(f8[::1], i8)", or a function that makes one of numba's types.
        shapes: of the arguments, as `ctrkit.shapes.Shapes` reads them, checked at every call: the loop itself
            does not look where an array ends. "" for a kernel whose callers check.
        reorder: let the compiler add numbers up in another order, so that it can take several at once.
        version: of the functions of other files that the kernel calls; another one is compiled anew.
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
                # Most calls are of shapes that were looked at before; looking again would take longer than
                # many a loop.
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
    except Exception:  # no folder can be written, or what lies there is damaged; an error of ours comes again
        return njit(signature, **options)(function)
