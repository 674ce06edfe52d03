"""secureagg.layout: tensors become one vector and come back as they were, or are refused by index."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from secureagg.errors import EncodingError, ParameterError
from secureagg.layout import Assembly, Layout

Tensor = NDArray[np.floating[Any]]

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
DTYPES = st.sampled_from(["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"])
TENSORS = st.tuples(DTYPES, SHAPES).flatmap(
    lambda pair: hnp.arrays(*pair, elements={"allow_nan": False, "allow_infinity": False})
)


@st.composite
def models(draw: st.DrawFn) -> list[Tensor]:
    """Tensors of any shape, dtype, byte order and strides, at least one coordinate in all."""
    tensors = draw(st.lists(TENSORS, min_size=1, max_size=5).filter(lambda model: any(t.size for t in model)))
    return [draw(st.sampled_from([t, t.T, np.repeat(t, 2, axis=0)[::2] if t.ndim else t])) for t in tensors]


@given(models())
def test_round_trip(model: list[Tensor]) -> None:
    layout = Layout.of(model)
    back = layout.unflatten(layout.flatten(model))
    assert [t.shape for t in back] == [t.shape for t in model]
    assert [t.dtype for t in back] == [t.dtype.newbyteorder("=") for t in model]
    assert all(np.array_equal(a, b) for a, b in zip(model, back, strict=True))
    assert Layout.of(back) == layout


@given(models())
def test_the_vector_is_row_major_in_the_order_of_the_tensors(model: list[Tensor]) -> None:
    expected = [float(value) for tensor in model for value in tensor.ravel(order="C")]
    assert Layout.of(model).flatten(model).tolist() == expected
    assert Layout.of(model).size == len(expected) == Layout.of(model).offsets[-1]


@given(models(), st.data())
def test_gather_is_a_slice_of_flatten(model: list[Tensor], data: st.DataObject) -> None:
    layout = Layout.of(model)
    start = data.draw(st.integers(0, layout.size))
    stop = data.draw(st.integers(start, layout.size))
    gathered = layout.gather(model, start, stop)
    assert gathered.dtype == np.float64
    assert np.array_equal(gathered, layout.flatten(model)[start:stop])


@given(models(), st.data())
def test_scatter_in_pieces_is_unflatten(model: list[Tensor], data: st.DataObject) -> None:
    layout = Layout.of(model)
    vector = layout.flatten(model)
    assembly = Assembly(layout)
    tensors = assembly.tensors()
    cuts = sorted(data.draw(st.lists(st.integers(0, layout.size), max_size=4)))
    for start, stop in zip([0, *cuts], [*cuts, layout.size], strict=True):
        assembly.write(vector[start:stop], start)
    assert all(np.array_equal(a, b) for a, b in zip(tensors, layout.unflatten(vector), strict=True))


@given(models(), st.data())
def test_bytes_round_trip_and_nothing_else_is_read(model: list[Tensor], data: st.DataObject) -> None:
    layout = Layout.of(model)
    encoded = layout.to_bytes()
    assert Layout.from_bytes(encoded) == layout
    assert Layout.from_bytes(encoded).digest() == layout.digest()
    with pytest.raises(EncodingError):
        Layout.from_bytes(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    with pytest.raises(EncodingError):
        Layout.from_bytes(encoded + data.draw(st.binary(min_size=1, max_size=3)))


def test_bytes_are_as_documented() -> None:
    layout = Layout(((2, 3), ()), ("float32", "float64"))
    assert layout.to_bytes().hex() == "02000000" + "010202000000000000000300000000000000" + "0200"


def test_numpy_scalars_are_tensors_without_dimensions() -> None:
    layout = Layout.of([np.float32(1.5)])
    (back,) = layout.unflatten(layout.flatten([np.float32(1.5)]))
    assert back.shape == () and back == 1.5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_by_index(bad: float) -> None:
    model = [np.zeros(3), np.array([[0.0, bad]])]
    with pytest.raises(ParameterError, match="tensor 1 holds NaN or an infinity"):
        Layout.of(model).check(model)


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex64", "object", "longdouble"])
def test_other_dtypes_are_refused_by_index(dtype: str) -> None:
    with pytest.raises(ParameterError, match="tensor 1 has dtype"):
        Layout.of([np.zeros(2), np.zeros(2, dtype=dtype)])


def test_what_is_not_an_array_is_refused_by_index() -> None:
    with pytest.raises(ParameterError, match="tensor 1 is a list"):
        Layout.of([np.zeros(2), [1.0, 2.0]])  # type: ignore[list-item]


@pytest.mark.parametrize("model", [[], [np.zeros((0, 3))], [np.zeros(0), np.zeros((2, 0))]])
def test_no_coordinate_is_refused(model: list[Tensor]) -> None:
    with pytest.raises(ParameterError, match="d = 0"):
        Layout.of(model)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ([np.zeros((2, 3), np.float32)], "1 tensors given, 2 expected"),
        ([np.zeros((2, 3), np.float32), np.zeros(5)], r"tensor 1 is float64\[5\], expected float64\[4\]"),
        ([np.zeros((3, 2), np.float32), np.zeros(4)], r"tensor 0 is float32\[3, 2\], expected float32\[2, 3\]"),
        ([np.zeros((2, 3), np.float64), np.zeros(4)], r"tensor 0 is float64\[2, 3\], expected float32\[2, 3\]"),
    ],
)
def test_another_layout_is_refused_by_index(other: list[Tensor], message: str) -> None:
    layout = Layout.of([np.zeros((2, 3), np.float32), np.zeros(4)])
    with pytest.raises(ParameterError, match=message):
        layout.check(other)


def test_a_vector_of_another_size_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"shape \(3,\) given, \(2,\) expected"):
        Layout.of([np.zeros(2)]).unflatten(np.zeros(3))


def test_a_value_too_large_for_its_dtype_is_refused_by_index() -> None:
    layout = Layout(((1,), (1,)), ("float64", "float16"))
    with pytest.raises(ParameterError, match="tensor 1: a value does not fit float16"):
        layout.unflatten(np.array([1e5, 1e5]))


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        ("010000000700", "tensor 0 has unknown dtype code 7"),
        ("00000000", "d = 0"),
        ("0100000001010000000000000000", "d = 0"),
        ("010000000121" + "0100000000000000" * 33, "impossible shape"),
        ("ffffffff", "truncated"),
    ],
)
def test_bytes_of_an_impossible_layout_are_refused(encoded: str, message: str) -> None:
    with pytest.raises(EncodingError, match=f"layout: .*{message}"):
        Layout.from_bytes(bytes.fromhex(encoded))


def test_shapes_and_dtypes_come_in_pairs() -> None:
    with pytest.raises(ParameterError, match="2 shapes but 1 dtypes"):
        Layout(((1,), (2,)), ("float32",))


def test_a_shape_numpy_could_not_hold_is_refused_even_if_it_is_empty() -> None:
    with pytest.raises(ParameterError, match="tensor 0 has an impossible shape"):
        Layout(((2**63, 0), (3,)), ("float32", "float32"))


def test_gathered_values_are_row_major_whatever_the_memory_is() -> None:
    """Ranges that begin and end within tensors, and hold whole ones, of which none lies in memory as it is read."""
    tensors = [
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(12.0, 24.0)[::-1][::-1].astype(">f8"),
        np.array(24.0),
        np.zeros((2, 0)),
        np.arange(25.0, 49.0).reshape(2, 3, 4).transpose(2, 1, 0).copy().transpose(2, 1, 0)[:, :, ::1],
        np.repeat(np.arange(49.0, 53.0), 2)[::2].astype(np.float16),
    ]
    layout = Layout.of(tensors)
    assert layout.size == 53
    for start, stop in itertools.combinations(range(54), 2):
        assert np.array_equal(layout.gather(tensors, start, stop), np.arange(start, stop, dtype=np.float64))


def test_small_neighbours_are_joined_and_large_ones_seen_in_place() -> None:
    """Runs end where the dtype or the size changes; scalars and empty tensors are in a run like others."""
    rng = np.random.default_rng(5)
    shapes = [(), (3, 0), (7, 5), (1 << 13,), (2, 1 << 13), (4,), (4,), (9,)]
    kinds = ["float32", "float32", "float32", "float32", "float32", "float64", "float64", "float16"]
    weights = [rng.normal(size=shape).astype(kind) for shape, kind in zip(shapes, kinds, strict=True)]
    layout = Layout.of(weights)
    joined = layout.join(weights)
    assert Layout.of(joined) == layout.joined and layout.joined.size == layout.size
    assert [tensor.size for tensor in joined] == [36, 1 << 13, 2 << 13, 8, 9]
    assert np.array_equal(layout.joined.flatten(joined), layout.flatten(weights))
    assert np.shares_memory(joined[1], weights[3]) and np.shares_memory(joined[2], weights[4])
    assert layout.joined.joined.shapes == layout.joined.shapes


def test_a_masked_array_is_refused_wherever_it_comes() -> None:
    """Its mask would be ignored."""
    masked = np.ma.masked_array(np.zeros(3), mask=[True, False, False])
    layout = Layout.of([np.zeros(3)])
    for refuse in (lambda: Layout.of([masked]), lambda: layout.check([masked])):
        with pytest.raises(ParameterError, match="tensor 0 is a MaskedArray; give numpy arrays"):
            refuse()


def test_an_extent_is_a_whole_number() -> None:
    with pytest.raises(ParameterError, match="tensor 0 has a shape of other than whole numbers"):
        Layout(((3.5,),), ("float32",))  # type: ignore[arg-type]
