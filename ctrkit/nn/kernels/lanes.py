"""A vector of float32 for numba: sixteen channels at once, kept in a register.

numba leaves vectorisation to LLVM, which on processors with AVX-512 uses half of each register and keeps sums
of inner loops in memory. With a type of its own, a kernel says what belongs in a register. LLVM makes of it
whatever the processor has: one register of AVX-512, two of AVX, four of SSE or NEON.

    x = load(array, (row, 0))                   # array[row, 0:16]; indices are not negative
    store(array, (row, 0), exp2(x) * 0.5 + x)

Arithmetic takes two vectors, or a vector and a number. A product and a sum may be fused into one operation.
"""

# mypy: ignore-errors
# What is used of numba and llvmlite has no types.

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model
from numba.np.arrayobj import make_array

LANES = 16

_Float = ir.FloatType()
_Int = ir.IntType(32)
_Floats = ir.VectorType(_Float, LANES)
_Ints = ir.VectorType(_Int, LANES)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for use by other compiled functions, on first use."""
    return njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


class LanesType(types.Type):
    """numba's type of a vector."""

    def __init__(self) -> None:
        super().__init__(name=f"Lanes({LANES})")


lanes = LanesType()


class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, of: LanesType) -> None:
        super().__init__(manager, of, _Floats)


register_model(LanesType)(_LanesModel)


def _repeated(builder: Any, number: Any) -> Any:
    """A vector of one number, from a scalar of LLVM."""
    nothing = ir.Constant(_Floats, ir.Undefined)
    first = builder.insert_element(nothing, number, _Int(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(_Ints, [0] * LANES))


def _from_number(context: Any, builder: Any, given: Any, wanted: Any, number: Any) -> Any:
    return _repeated(builder, context.cast(builder, number, given, types.float32))


lower_cast(types.Number, lanes)(_from_number)


def _define_operator(symbol: Callable[..., Any], instruction: str) -> None:
    class Template(AbstractTemplate):
        def generic(self, args: Sequence[Any], kws: Any) -> Any:
            if lanes in args and all(a is lanes or isinstance(a, types.Number) for a in args):
                return signature(lanes, *[lanes] * len(args))
            return None

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        return getattr(builder, instruction)(*args, flags=("contract",))

    infer_global(symbol)(Template)
    lower_builtin(symbol, *[lanes] * (1 if instruction == "fneg" else 2))(lower)


for _symbol, _instruction in (
    (operator.add, "fadd"), (operator.iadd, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"),
    (operator.truediv, "fdiv"), (operator.neg, "fneg"),
):  # fmt: skip
    _define_operator(_symbol, _instruction)


@intrinsic
def spread(typing: Any, number: Any) -> Any:
    """A vector of one number."""

    def build(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        return _from_number(context, builder, sig.args[0], lanes, args[0])

    return lanes(number), build


@intrinsic
def total(typing: Any, vector: Any) -> Any:
    """The sum of a vector's numbers."""

    def build(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        reduce = ir.FunctionType(_Float, (_Float, _Floats))
        function = cgutils.get_or_insert_function(
            builder.module, reduce, f"llvm.vector.reduce.fadd.v{LANES}f32"
        )
        return builder.call(function, (_Float(0.0), args[0]), fastmath=("reassoc",))

    return types.float32(vector), build


def _extreme(worse: str) -> Any:
    def typed(typing: Any, vector: Any, bound: Any) -> Any:
        def build(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
            # Ordered: a number that is no number is not worse than the bound, and stays what it is.
            return builder.select(builder.fcmp_ordered(worse, *args), args[1], args[0])

        return lanes(lanes, lanes), build

    return intrinsic(typed)


maximum = _extreme("<")
minimum = _extreme(">")


@intrinsic
def times_power_of_two(typing: Any, vector: Any, power: Any) -> Any:
    """vector 2**k, for k the integer in the lowest bits of `power`: it is added to the exponent."""

    def build(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        bits, power = (builder.bitcast(arg, _Ints) for arg in args)
        exponent = builder.shl(power, ir.Constant(_Ints, [23] * LANES))
        return builder.bitcast(builder.add(bits, exponent), _Floats)

    return lanes(lanes, lanes), build


def _pointer(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
    """Where the element stands that an array and a tuple of indices name."""
    array = make_array(sig.args[0])(context, builder, value=args[0])
    indices = cgutils.unpack_tuple(builder, args[1], len(sig.args[1]))
    return cgutils.get_item_pointer(context, builder, sig.args[0], array, indices, wraparound=False)


def _first(builder: Any, count: Any) -> Any:
    """A mask of the first `count` lanes."""
    counts = builder.trunc(count, _Int)
    first = builder.insert_element(ir.Constant(_Ints, ir.Undefined), counts, _Int(0))
    every = builder.shuffle_vector(first, first, ir.Constant(_Ints, [0] * LANES))
    return builder.icmp_signed("<", ir.Constant(_Ints, list(range(LANES))), every)


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """The sixteen numbers from `array[index]` on, which lie side by side."""

    def build(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        place = builder.bitcast(_pointer(context, builder, sig, args), _Floats.as_pointer())
        return builder.load(place, align=4)

    return lanes(array, index), build


@intrinsic
def load_repeated(typing: Any, array: Any, index: Any) -> Any:
    """The number `array[index]`, sixteen times."""

    def build(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        return _repeated(builder, builder.load(_pointer(context, builder, sig, args)))

    return lanes(array, index), build


@intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write a vector to `array[index]` and what follows it."""

    def build(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        place = builder.bitcast(_pointer(context, builder, sig, args), _Floats.as_pointer())
        builder.store(args[2], place, align=4)
        return context.get_dummy_value()

    return types.void(array, index, lanes), build


@intrinsic
def load_first(typing: Any, array: Any, index: Any, count: Any) -> Any:
    """`load` of the first `count` numbers only, where fewer are left; the other lanes are 0."""

    def build(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        place = _pointer(context, builder, sig, args)
        mask = _first(builder, args[2])
        kind = ir.FunctionType(_Floats, (place.type, _Int, mask.type, _Floats))
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{LANES}f32.p0")
        return builder.call(function, (place, _Int(4), mask, ir.Constant(_Floats, [0.0] * LANES)))

    return lanes(array, index, types.int64), build


@intrinsic
def store_first(typing: Any, array: Any, index: Any, vector: Any, count: Any) -> Any:
    """`store` of the first `count` numbers only."""

    def build(context: Any, builder: Any, sig: Any, args: Sequence[Any]) -> Any:
        place = _pointer(context, builder, sig, args)
        mask = _first(builder, args[3])
        kind = ir.FunctionType(ir.VoidType(), (_Floats, place.type, _Int, mask.type))
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.v{LANES}f32.p0")
        builder.call(function, (args[2], place, _Int(4), mask))
        return context.get_dummy_value()

    return types.void(array, index, lanes, types.int64), build
