"""The compiled kernels of `ctrkit.nn.kernels` as operators of torch, with their gradients.

As operators they are opaque to `torch.compile`, which keeps them whole and fuses the operations around them.
numba is imported when the first operator runs. The kernels check no sizes, so each operator does.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctrkit.nn.kernels.threads import in_parallel
from ctrkit.shapes import Shapes

# Whether numba is installed and its vectors give correct results; None until that is tried.
_NUMBA: bool | None = None if importlib.util.find_spec("numba") else False
# Operator -> its shapes.
SHAPES: dict[str, Shapes] = {}
_library = torch.library.Library("ctrkit", "FRAGMENT")  # type: ignore[no-untyped-call]

# Gradients of weights are added up in at most this many sums, each of as many rows, and these then in order:
# the result is the same, bit for bit, whatever the number of threads and whichever comes first.
SUMS = 64
# Bytes of states and decays that one thread of the backward scan keeps, which should fit the second cache.
_HISTORY = 1 << 19
# Parts of a batch a thread: more than one, as rows differ in length and other programs want the cores too.
_PARTS_A_THREAD = 4
_SHAPES_KEPT = 4096
# Multiplications below which one thread is done before others have begun.
_SMALL = 1 << 18


def _convolution(x: Tensor, weight: Tensor, mask: Tensor | None) -> Tensor:
    """silu of the causal depthwise convolution of x `[B, L, D]`; weight `[D, d_conv + 1]`, the bias last."""
    from ctrkit.nn.kernels.convolution import convolve

    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    on_rows(convolve, x.numel() * weight.shape[1], x, weight, _mask(mask), y)
    return y


def _convolution_backward(
    x: Tensor, weight: Tensor, mask: Tensor | None, grad_y: Tensor
) -> tuple[Tensor, Tensor]:
    from ctrkit.nn.kernels.convolution import convolve_backward

    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    sums, rows = _sums(x, weight.shape[1])
    inputs = x, weight, _mask(mask), grad_y.contiguous()
    work = x.numel() * weight.shape[1]
    on_rows(convolve_backward, work, *inputs, grad_x, sums, rows, unit=rows)
    return grad_x, _added(sums, weight.shape[0])


def _scan(
    u: Tensor,
    selection: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    mask: Tensor | None,
    h: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`ctrkit.nn.scan.selective_scan_with_state` for float32 on a CPU."""
    from ctrkit.nn.kernels.scan import scan

    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    last = u.new_empty(u.shape[0], A.shape[1], A.shape[0])
    inputs = u.contiguous(), selection.contiguous(), z, _low_rank(dt_weight, dt_bias), A, D.unsqueeze(1)
    on_rows(scan, u.numel() * A.shape[1], *inputs, _mask(mask), _state(h), y, last)
    return y, last


def _scan_backward(
    u: Tensor,
    selection: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    mask: Tensor | None,
    h: Tensor | None,
    grad_y: Tensor,
    grad_last: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the first seven inputs and of h, that one empty without h."""
    from ctrkit.nn.kernels.scan import scan_backward

    (channels, states), rank = A.shape, dt_weight.shape[1]
    inputs = u.contiguous(), selection.contiguous(), z, _low_rank(dt_weight, dt_bias), A, D.unsqueeze(1)
    grad_u, grad_selection, grad_z, grad_h = (
        torch.empty_like(x, memory_format=torch.contiguous_format) for x in (u, selection, z, _state(h))
    )
    sums, rows = _sums(u, states + rank + 2)
    chunk = _HISTORY // (8 * sums.shape[1] * sums.shape[3] * states)
    on_rows(
        scan_backward, 4 * u.numel() * states,
        *inputs, _mask(mask), _state(h), grad_y.contiguous(), _state(grad_last),
        grad_u, grad_selection, grad_z, grad_h, sums, rows, chunk, unit=rows,
    )  # fmt: skip
    grad_A, grad_weight, grad_bias, grad_D = torch.split(_added(sums, channels), [states, rank, 1, 1], dim=1)
    weights = [x.clone() for x in (grad_weight, grad_bias.squeeze(1), grad_A, grad_D.squeeze(1))]
    return grad_u, grad_selection, grad_z, weights[0], weights[1], weights[2], weights[3], grad_h


def _mixer(
    x: Tensor,
    in_proj: Tensor,
    convolution: Tensor,
    x_proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    out_proj: Tensor,
    before: Tensor | None,
    after: Tensor | None,
    residual: bool,
    epsilon: float,
    mask: Tensor | None,
    window: Tensor | None,
    h: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """`ctrkit.nn.mamba.Mamba` without gradients, for float32 on a CPU: y, and the window and h to keep.

    before, after: weight and bias `[2, d_model]` of a normalisation before, and after; residual: x is added
    to what is mixed.
    """
    from ctrkit.nn.kernels.mixer import mix

    y, last_window, last = _mixed(x, convolution, A, keep)
    nothing = torch.zeros(0, 0)
    on_rows(
        mix, x.shape[0] * x.shape[1] * A.numel(),
        x, in_proj, convolution, x_proj, _low_rank(dt_weight, dt_bias), A, D.unsqueeze(1), out_proj,
        nothing if before is None else before, nothing if after is None else after,
        _mask(mask), _state(window), _state(h), y, last_window, last, residual, epsilon,
    )  # fmt: skip
    return y, last_window, last


def _mixed(x: Tensor, convolution: Tensor, A: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Room for what a mixer gives; none for a state that is not to be kept."""
    rows, inner = x.shape[0] if keep else 0, A.shape[0]
    window = x.new_empty(rows, convolution.shape[1] - 2, inner)
    return x.new_empty(x.shape), window, x.new_empty(rows, A.shape[1], inner)


def by_kernel(*tensors: Tensor) -> bool:
    """Whether the compiled kernels can do it. Exported programs run where ctrkit is not, so they cannot."""
    fit = all(x.device.type == "cpu" and x.dtype == torch.float32 for x in tensors)
    return fit and not torch.compiler.is_exporting() and _numba_works()


def _numba_works() -> bool:
    global _NUMBA
    # What torch compiles cannot be interrupted by numba's compiler; it is taken to work there.
    if _NUMBA is None and not torch.compiler.is_compiling():
        try:
            from ctrkit.nn.kernels.probe import works

            _NUMBA = works()
        except Exception:  # of a version that has moved, renamed or changed what `lanes` is made of
            _NUMBA = False
        if not _NUMBA:
            warnings.warn(
                "the kernels of ctrkit do not work with this numba; ordinary operations of torch do the "
                "same, many times slower",
                RuntimeWarning,
                stacklevel=2,
            )
    return _NUMBA is not False


def on_rows(kernel: Callable[..., None], work: int, *arguments: Tensor | float, unit: int = 1) -> None:
    """Call a kernel for all rows of a batch, by parts, on torch's threads.

    Args:
        kernel: the kernel.
        work: total number of multiplications.
        arguments: arguments of the kernel before the row range; the first is a tensor `[B, ...]`.
        unit: the number of rows in a part is a multiple of this.
    """
    memory: list[Any] = [_memory(x) if isinstance(x, Tensor) else x for x in arguments]
    batch = len(memory[0])
    threads = torch.get_num_threads()
    parts = 1 if threads == 1 or work < _SMALL else _PARTS_A_THREAD * threads
    size = -(-batch // (parts * unit)) * unit

    def on_part(part: int) -> None:
        kernel(*memory, part * size, min(batch, (part + 1) * size))

    if batch:
        in_parallel(on_part, -(-batch // size))


def _memory(x: Tensor) -> Any:
    """The array of a tensor's memory. Its channels are contiguous; its rows and steps may have strides."""
    return (x if x.stride(-1) == 1 else x.contiguous()).detach().numpy()


def _sums(x: Tensor, columns: int) -> tuple[Tensor, int]:
    """Zeros for sums of the gradients of weights `[D, columns]`, and the number of rows in each sum."""
    from ctrkit.nn.kernels.lanes import LANES

    batch, _, channels = x.shape
    rows = max(1, -(-batch // SUMS))
    return x.new_zeros(-(-batch // rows), -(-channels // LANES), columns, LANES), rows


def _added(sums: Tensor, channels: int) -> Tensor:
    """`[sums, blocks, columns, LANES] -> [D, columns]`. numpy adds in order, torch by threads."""
    added = torch.from_numpy(np.add.reduce(sums.numpy(), axis=0))
    return added.transpose(1, 2).flatten(0, 1)[:channels].contiguous()


def _low_rank(weight: Tensor, bias: Tensor) -> Tensor:
    return torch.cat([weight, bias.unsqueeze(1)], dim=1)


def _mask(mask: Tensor | None) -> Tensor:
    return torch.zeros(0, 0, dtype=torch.bool) if mask is None else mask


def _state(h: Tensor | None) -> Tensor:
    return torch.zeros(0, 0, 0) if h is None else h


def _like(*tensors: Tensor) -> list[Tensor]:
    return [torch.empty_like(x, memory_format=torch.contiguous_format) for x in tensors]


def _convolution_fake(x: Tensor, weight: Tensor, mask: Tensor | None) -> Tensor:
    return _like(x)[0]


def _convolution_backward_fake(x: Tensor, weight: Tensor, *others: Any) -> tuple[Tensor, ...]:
    return tuple(_like(x, weight))


def _scan_fake(*inputs: Any) -> tuple[Tensor, Tensor]:
    u, A = inputs[0], inputs[5]
    return _like(u)[0], u.new_empty(u.shape[0], *A.t().shape)


def _scan_backward_fake(*inputs: Any) -> tuple[Tensor, ...]:
    return tuple(_like(*inputs[:7], _state(inputs[8])))


def _mixer_fake(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _mixed(inputs[0], inputs[2], inputs[6], inputs[-1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _convolution_gradients(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    return *_convolution_backward_operator(*ctx.saved_tensors, grad_y), None


def _scan_gradients(ctx: Any, grad_y: Tensor | None, grad_last: Tensor | None) -> tuple[Tensor | None, ...]:
    u, *_, h = ctx.saved_tensors
    grad_y = torch.zeros_like(u) if grad_y is None else grad_y
    *grads, grad_h = _scan_backward_operator(*ctx.saved_tensors, grad_y, grad_last)
    return *grads, None, None if h is None else grad_h


def operator(
    name: str,
    shapes: str,
    function: Callable[..., Any],
    fake: Callable[..., Any],
    gradients: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """An operator `ctrkit::name` of torch for tensors on a CPU.

    `torch.library.custom_op` would do the same, but imports `torch._dynamo` on its first call, which takes
    more than a second.

    Args:
        name: name of the operator.
        shapes: shapes of the tensors, in the form of `ctrkit.shapes.Shapes`. Tensors are float32, or bool if
            they are called `mask`.
        function: the implementation, with annotated arguments. It neither changes nor returns its arguments.
        fake: returns empty tensors with the same shapes as `function`.
        gradients: the backward function of an `autograd.Function` that saved all inputs.
    """
    schema = torch.library.infer_schema(function, mutates_args=())
    checked = _door(name, shapes, function)
    _library.define(name + schema)  # type: ignore[no-untyped-call]
    _library.impl(name, checked(function), "CPU")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"ctrkit::{name}", checked(fake), lib=_library)
    if gradients is not None:
        torch.library.register_autograd(f"ctrkit::{name}", gradients, setup_context=_keep, lib=_library)
    defined: Callable[..., Any] = getattr(torch.ops.ctrkit, name).default
    return defined


def _door(
    name: str, text: str, function: Callable[..., Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator of an operator's implementations, which checks shapes and types."""
    shapes, names = SHAPES.setdefault(name, Shapes(text)), tuple(inspect.signature(function).parameters)
    places = [names.index(argument) for argument in shapes.names]
    taken: set[Any] = set()  # inputs checked before, as a check takes longer than a step of a small mixer

    def check(inputs: Sequence[Any]) -> None:
        for place in places:
            x, argument = inputs[place], names[place]
            wanted = torch.bool if argument == "mask" else torch.float32
            if x is not None and (x.dtype != wanted or x.device.type != "cpu"):
                raise ValueError(
                    f"ctrkit::{name}: `{argument}` is {x.dtype} on {x.device}, not {wanted} on the CPU"
                )
        shapes.check(f"ctrkit::{name}", dict(zip(names, inputs, strict=True)))

    def key(inputs: Sequence[Any]) -> Any:
        given = [inputs[place] for place in places]
        return tuple([None if x is None else (x.shape, x.dtype) for x in given])

    def checked(implementation: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(implementation)
        def call(*inputs: Any) -> Any:
            if implementation is not function:
                check(inputs)  # of fake tensors sizes may be symbols
            elif (found := key(inputs)) not in taken:
                check(inputs)
                if len(taken) == _SHAPES_KEPT:
                    taken.clear()
                taken.add(found)
            return implementation(*inputs)

        return call

    return checked


# Weights first: where an input does not go with them, it is the input that is named.
_CONVOLUTION = "weight: D T+2; x: B L D; mask: B L"
SCAN_SHAPES = (
    "A: D N; D: D; dt_weight: D R; dt_bias: D; u: B L D; z: B L D; selection: B L R+2N; mask: B L; h: B N D"
)
_MIXER = (
    "A: D N; D: D; in_proj: 2D M; convolution: D T+2; dt_weight: D R; dt_bias: D; x_proj: R+2N D; "
    "out_proj: M D; before: 2 M; after: 2 M; x: B L M; mask: B L; window: B T D; h: B N D"
)

convolution_operator = operator(
    "convolution", _CONVOLUTION, _convolution, _convolution_fake, _convolution_gradients
)
_convolution_backward_operator = operator(
    "convolution_backward",
    f"{_CONVOLUTION}; grad_y: B L D",
    _convolution_backward,
    _convolution_backward_fake,
)
scan_operator = operator("selective_scan", SCAN_SHAPES, _scan, _scan_fake, _scan_gradients)
_scan_backward_operator = operator(
    "selective_scan_backward",
    f"{SCAN_SHAPES}; grad_y: B L D; grad_last: B N D",
    _scan_backward,
    _scan_backward_fake,
)
mixer_operator = operator("mamba", _MIXER, _mixer, _mixer_fake)
