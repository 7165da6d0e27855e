"""How loops are compiled, and their access to memory by address.

State that grows lies in many blocks (`streamq.kernels.memory`), which loops reach by address. Words are int64 and need not be
aligned; addresses are int64 too, so that no arithmetic mixes signs (which would make it floating).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys
from numba.extending import intrinsic

_WORD = ir.IntType(64)
_PAIR = ir.IntType(128)


_compile = cast("Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]", numba.njit)
"""Its annotations know fewer options than it takes."""


class _KeptCode(FunctionCache):
    """Machine code on disk. To load some starts what it runs on, but not what numba compiles with: that takes many times as long."""

    def load_overload(self, signature: Any, target: Any) -> Any:
        rtsys.initialize(target)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(signature, target)  # type: ignore[no-untyped-call]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop at its first call, without the interpreter lock; machine code is kept on disk for later processes."""
    loop: Any = _compile(nogil=True, error_model="numpy", no_cfunc_wrapper=True)(function)
    loop._cache = _KeptCode(function)  # type: ignore[no-untyped-call]
    return cast("Callable[..., Any]", loop)


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile what only loops call, into them.

    The code of loops is kept on disk by the date of their own file: after a change here, touch the files that use it.
    """
    return _compile(error_model="numpy", no_cfunc_wrapper=True, no_cpython_wrapper=True)(function)


def _instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    return cast("Callable[..., Any]", intrinsic(function))


def _at(builder: Any, address: Any, kind: ir.Type) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _reader(kind: ir.Type, result: Any) -> Callable[..., Any]:
    def read(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = builder.load(_at(builder, arguments[0], kind), align=1)
            return value if kind.width == 64 else builder.zext(value, _WORD)

        return result(types.int64), generate

    return read


def _writer(kind: ir.Type) -> Callable[..., Any]:
    def write(typing: Any, address: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            value = arguments[1] if kind.width == 64 else builder.trunc(arguments[1], kind)
            builder.store(value, _at(builder, arguments[0], kind), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return write


load = _instruction(_reader(ir.IntType(64), types.int64))
load_4 = _instruction(_reader(ir.IntType(32), types.int64))
load_1 = _instruction(_reader(ir.IntType(8), types.int64))
store = _instruction(_writer(ir.IntType(64)))
store_1 = _instruction(_writer(ir.IntType(8)))


@_instruction
def bits_of(typing: Any, value: Any) -> Any:
    """Give the bits of a float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _WORD)

    return types.int64(types.float64), generate


@_instruction
def float_of(typing: Any, bits: Any) -> Any:
    """Give the float64 with these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@_instruction
def prefetch(typing: Any, address: Any) -> Any:
    """Begin to bring a cache line near; any address will do."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = cast("Any", cgutils).get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [builder.inttoptr(arguments[0], byte), flag(1), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@_instruction
def add_product(typing: Any, address: Any, low: Any, high: Any, factor: Any) -> Any:
    """Add (high, low) x factor to the 128-bit number at an address; tell whether that overflowed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = _at(builder, arguments[0], _PAIR)
        low = builder.zext(arguments[1], _PAIR)
        high = builder.shl(builder.zext(arguments[2], _PAIR), _PAIR(64))
        product = builder.mul(builder.or_(high, low), builder.sext(arguments[3], _PAIR))
        total = builder.sadd_with_overflow(builder.load(where, align=8), product)
        builder.store(builder.extract_value(total, 0), where, align=8)
        return builder.zext(builder.extract_value(total, 1), _WORD)

    return types.int64(types.int64, types.int64, types.int64, types.int64), generate


@_instruction
def add_wide(typing: Any, address: Any, low: Any, high: Any) -> Any:
    """Add (high, low) to the 128-bit number at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = _at(builder, arguments[0], _PAIR)
        high = builder.shl(builder.zext(arguments[2], _PAIR), _PAIR(64))
        value = builder.or_(high, builder.zext(arguments[1], _PAIR))
        builder.store(builder.add(builder.load(where, align=8), value), where, align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate
