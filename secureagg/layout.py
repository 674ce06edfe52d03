"""A list of weight tensors and one flat vector, without surprises.

Order is the caller's; values are row-major. Scalars (shape `()`) and empty tensors keep their place. A tensor of
another kind, shape or dtype than the layout says is refused with its index, never reshaped or cast.

| input | result |
|---|---|
| shape `()` | one coordinate, comes back as an array of shape `()` |
| shape `(3, 0)` | no coordinate, comes back empty |
| all tensors empty, or no tensor | refused: d = 0 |
| NaN, ±inf | refused with the tensor's index |
| integer, bool, complex, object | refused: a mean of them is not of their type |
| big-endian floats | accepted; come back in the machine's own byte order |
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby, pairwise, repeat
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.wire import Reader, Writer

__all__ = ["Assembly", "Layout", "Weights"]

Weights = Sequence[NDArray[np.floating[Any]]]

_CODES = {"float16": 0, "float32": 1, "float64": 2}
_DTYPES = {code: name for name, code in _CODES.items()}
_MAX_DIMENSIONS = 32  # numpy's own limit before 2.0
_MAX_SPAN = 2**59  # times 8 bytes still fits an index
_SMALL = 1 << 13  # coordinates; below, numpy's work for a tensor as such is a good part of that for its values
_CHECK_BLOCK = 1 << 20  # coordinates looked at in one go; bounds the temporary memory of a check
_shape_of, _dtype_of = attrgetter("shape"), attrgetter("dtype")


@dataclass(frozen=True)
class Layout:
    """The shapes and dtypes of a model's weight tensors, in order.

    Requires: dtypes among float16, float32, float64; at least one coordinate in all.
    """

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.shapes) != len(self.dtypes):
            raise ParameterError(f"{len(self.shapes)} shapes but {len(self.dtypes)} dtypes; give one each per tensor")
        for index, (shape, dtype) in enumerate(zip(self.shapes, self.dtypes, strict=True)):
            if dtype not in _CODES:
                raise ParameterError(
                    f"tensor {index} has dtype {dtype}; only {', '.join(_CODES)} can be averaged, "
                    "so leave it out of the update or cast it"
                )
            if not all(isinstance(extent, int) for extent in shape):
                raise ParameterError(f"tensor {index} has a shape of other than whole numbers: {shape}")
            # numpy refuses an array whose non-zero extents multiply to more than an index can hold, even an empty one.
            spanned = math.prod(extent for extent in shape if extent)
            if len(shape) > _MAX_DIMENSIONS or any(extent < 0 for extent in shape) or spanned > _MAX_SPAN:
                raise ParameterError(f"tensor {index} has an impossible shape {shape}")
        if self.size == 0:
            raise ParameterError("the layout holds no coordinate (d = 0); give at least one non-empty tensor")

    @classmethod
    def of(cls, weights: Weights) -> Layout:
        """Return the layout of these tensors; anything that is not a numpy array is refused with its index."""
        for index, tensor in enumerate(weights):
            if not isinstance(tensor, np.ndarray | np.generic) or isinstance(tensor, np.ma.MaskedArray):
                raise ParameterError(f"tensor {index} is a {type(tensor).__name__}; give numpy arrays (np.asarray)")
        return cls(tuple(tuple(t.shape) for t in weights), tuple(t.dtype.name for t in weights))

    @cached_property
    def size(self) -> int:
        """d, the number of coordinates."""
        return sum(math.prod(shape) for shape in self.shapes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor starts in the flat vector; one more entry than tensors, the last is d."""
        return tuple(accumulate((math.prod(shape) for shape in self.shapes), initial=0))

    @cached_property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """[first, last) of the tensors in each run of neighbours with one dtype."""
        lengths = [len(list(run)) for _, run in groupby(self.dtypes)]
        return tuple(pairwise(accumulate(lengths, initial=0)))

    @cached_property
    def _joins(self) -> tuple[tuple[int, int], ...]:
        """[first, last) of the tensors that `join` makes one of: small neighbours of one dtype, or a single one."""
        kinds = [(dtype, math.prod(shape) < _SMALL) for shape, dtype in zip(self.shapes, self.dtypes, strict=True)]
        lengths = [n for (_, small), run in groupby(kinds) for n in ([len(list(run))] if small else [1 for _ in run])]
        return tuple(pairwise(accumulate(lengths, initial=0)))

    @cached_property
    def joined(self) -> Layout:
        """The layout of what `join` returns."""
        sizes = [(self.offsets[last] - self.offsets[first],) for first, last in self._joins]
        return Layout(tuple(sizes), tuple(self.dtypes[first] for first, _ in self._joins))

    def join(self, weights: Weights) -> list[NDArray[np.floating[Any]]]:
        """Return the same coordinates in fewer arrays, so that to read them twice costs no more for many tensors.

        Requires: `check_shapes(weights)` passed. Neighbours below 2^13 coordinates are copied, larger ones are views.
        """
        return [
            np.concatenate(weights[first:last], axis=None) if last - first > 1 else weights[first].reshape(-1)
            for first, last in self._joins
        ]

    @cached_property
    def _numpy_dtypes(self) -> tuple[np.dtype[Any], ...]:
        return tuple(np.dtype(name) for name in self.dtypes)

    def require_same(self, other: Layout) -> None:
        """Raise ParameterError naming the first tensor in which `other` differs from this layout."""
        if len(self.shapes) != len(other.shapes):
            raise ParameterError(f"{len(other.shapes)} tensors given, {len(self.shapes)} expected")
        for index in range(len(self.shapes)):
            expected, found = (self.shapes[index], self.dtypes[index]), (other.shapes[index], other.dtypes[index])
            if expected != found:
                raise ParameterError(
                    f"tensor {index} is {found[1]}{list(found[0])}, expected {expected[1]}{list(expected[0])}"
                )

    def check_shapes(self, weights: Weights) -> None:
        """Raise ParameterError with the tensor's index unless shapes and dtypes fit."""
        if (
            not all(map(_is_plain, set(map(type, weights))))
            or tuple(map(_shape_of, weights)) != self.shapes
            or tuple(map(_dtype_of, weights)) != self._numpy_dtypes
        ):
            self.require_same(Layout.of(weights))  # says what differs; another byte order, say, does not

    def check(self, weights: Weights) -> None:
        """Raise ParameterError with the tensor's index unless shapes and dtypes fit and every value is finite."""
        self.check_shapes(weights)
        self.check_finite(weights)

    @staticmethod
    def check_finite(weights: Weights) -> None:
        """Raise ParameterError with the tensor's index unless every value is finite."""
        for index, tensor in enumerate(weights):
            if not _all_finite(tensor):
                raise ParameterError(f"tensor {index} holds NaN or an infinity; nothing was sent")

    def gather(self, weights: Weights, start: int, stop: int) -> NDArray[np.float64]:
        """Return coordinates [start, stop) of the flat vector as float64[stop − start].

        Requires: `check_shapes(weights)` passed; 0 ≤ start ≤ stop ≤ d. Memory: the result and no other copy, as long
        as the tensors are contiguous, so a caller who walks a large model in chunks never holds it twice.
        """
        out = np.empty(stop - start, dtype=np.float64)
        if start < stop:
            first, last = bisect_right(self.offsets, start) - 1, bisect_left(self.offsets, stop)
            pieces = list(weights[first:last])
            pieces[-1] = pieces[-1].reshape(-1)[: stop - self.offsets[last - 1]]
            pieces[0] = pieces[0].reshape(-1)[start - self.offsets[first] :]
            np.concatenate(pieces, axis=None, out=out)  # it flattens each as reshape(-1) does, many times faster
        return out

    def flatten(self, weights: Weights) -> NDArray[np.float64]:
        """Return all tensors as one float64[d], checked. float16 and float32 are represented exactly."""
        self.check(weights)
        return self.gather(weights, 0, self.size)

    def unflatten(self, vector: NDArray[np.float64]) -> list[NDArray[np.floating[Any]]]:
        """Return the tensors in their original shapes and dtypes, rounded to nearest.

        Raises: ParameterError if `vector` is not float64[d], or if a value does not fit its tensor's dtype.
        """
        if vector.shape != (self.size,):
            raise ParameterError(f"a vector of shape {vector.shape} given, ({self.size},) expected")
        assembly = Assembly(self)
        assembly.write(vector, 0)
        return assembly.tensors()

    def to_bytes(self) -> bytes:
        """Encode: tensor count (4 bytes), then per tensor dtype code (1), dimensions (1), extents (8 each)."""
        writer = Writer().integer(len(self.shapes), 4)
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            writer.integer(_CODES[dtype], 1).integer(len(shape), 1)
            for extent in shape:
                writer.integer(extent, 8)
        return writer.getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes | memoryview) -> Layout:
        """Decode `to_bytes`; anything else is an EncodingError."""
        reader = Reader(encoded, "layout")
        shapes, dtypes = [], []
        for index in range(reader.integer(4)):
            code = reader.integer(1)
            if code not in _DTYPES:
                raise reader.error(f"tensor {index} has unknown dtype code {code}")
            dtypes.append(_DTYPES[code])
            shapes.append(tuple(reader.integer(8) for _ in range(reader.integer(1))))
        reader.end()
        try:
            return cls(tuple(shapes), tuple(dtypes))
        except ParameterError as error:
            raise reader.error(str(error)) from error

    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes."""
        return hashlib.sha256(self.to_bytes()).digest()


class Assembly:
    """New tensors of a layout, filled range by range.

    Neighbouring tensors of one dtype are views of one array, so that a range is written in one go however many
    tensors it crosses. Ranges that do not overlap may be written by several threads at once.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._runs = [
            (layout.offsets[first], np.empty(layout.offsets[last] - layout.offsets[first], layout.dtypes[first]))
            for first, last in layout.runs
        ]

    def tensors(self) -> list[NDArray[np.floating[Any]]]:
        """Return the tensors; what is written later is seen in them."""
        found: list[NDArray[np.floating[Any]]] = []
        for (first, last), (start, flat) in zip(self._layout.runs, self._runs, strict=True):
            bytes_before = [(at - start) * flat.itemsize for at in self._layout.offsets[first:last]]
            found += map(np.ndarray, self._layout.shapes[first:last], repeat(flat.dtype), repeat(flat), bytes_before)
        return found

    def write(self, values: NDArray[np.float64], start: int) -> None:
        """Write `values` into coordinates [start, start + len(values)), rounded to nearest.

        Raises: ParameterError if a value does not fit its tensor's dtype.
        """
        for first, flat in self._runs:
            low, high = max(start, first), min(start + len(values), first + len(flat))
            if low >= high:
                continue
            piece = flat[low - first : high - first]
            with np.errstate(over="ignore"):
                piece[:] = values[low - start : high - start]
            finite = np.isfinite(piece)
            if not finite.all():
                index = bisect_right(self._layout.offsets, low + int(np.argmin(finite))) - 1
                raise ParameterError(
                    f"tensor {index}: a value does not fit {self._layout.dtypes[index]}; use a wider dtype"
                )


def _is_plain(kind: type) -> bool:
    """Whether arrays of this type hold their values and nothing else, as a mask."""
    return issubclass(kind, np.ndarray) and not issubclass(kind, np.ma.MaskedArray)


def _all_finite(tensor: NDArray[np.floating[Any]]) -> bool:
    flat = tensor.reshape(-1)
    return all(
        bool(np.isfinite(flat[start : start + _CHECK_BLOCK]).all()) for start in range(0, flat.size, _CHECK_BLOCK)
    )
