"""The decorators and array types all kernels share: eager signatures, no GIL, compiled code kept on disk.

A kernel is compiled when its module is imported, for its declared signatures and no others, so a call never compiles
and a wrong dtype is a TypeError. Only `*_kernels.py` modules import numba, and each is imported by the first call
that needs it. The cache sees changes in a kernel's own file only: whatever a kernel inlines stands beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit, types

__all__ = ["inlined", "kernel", "readable", "scalar", "writable"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

if sys.byteorder != "little":
    raise ImportError("secureagg's kernels read 64-bit words in place and need a little-endian machine")


def writable(scalar: types.Type, dimensions: int, *, aligned: bool = True) -> types.Array:
    """The type of a C-ordered array that a kernel may write."""
    return types.Array(scalar, dimensions, "C", aligned=aligned)


def readable(scalar: types.Type, dimensions: int, *, aligned: bool = True) -> types.Array:
    """The type of a C-ordered array that a kernel only reads; takes writable arrays too."""
    return types.Array(scalar, dimensions, "C", readonly=True, aligned=aligned)


def kernel(result: types.Type, *arguments: types.Type) -> Callable[[_Function], _Function]:
    """Compile a function for these argument types, callable from Python without the GIL.

    The code is cached beside the module or, where that cannot be written, in the user's cache directory (numba's
    own order of places; NUMBA_CACHE_DIR comes first). Where nothing can be written it is compiled in every process.
    """

    def compiled(function: _Function) -> _Function:
        signature = result(*arguments)
        try:
            return njit(signature, cache=True, nogil=True)(function)  # type: ignore[return-value]
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
            return njit(signature, cache=False, nogil=True)(function)  # type: ignore[return-value]

    return compiled


def inlined(function: _Function) -> _Function:
    """Copy a function into every kernel of its file that calls it, before typing: literal arguments stay literal."""
    return njit(inline="always")(function)  # type: ignore[return-value]


def scalar(function: _Function) -> _Function:
    """The same for a function of words alone, left to LLVM, which compiles faster."""
    return njit(forceinline=True)(function)  # type: ignore[return-value]
