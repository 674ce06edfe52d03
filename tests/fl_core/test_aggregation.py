"""The plain mean: laws against numpy, and each refusal. Beside: which result, which deviation."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fl_core as fl

FLOATS = [np.float16, np.float32, np.float64]


@st.composite
def rounds(draw):
    """(model, [(weight, update)]) with up to four layers of any float dtype and shape, scalars and empty ones too."""
    shapes = draw(st.lists(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), min_size=1, max_size=4))
    dtypes = [draw(st.sampled_from(FLOATS)) for _ in shapes]
    elements = st.floats(-1000, 1000, width=16)

    def layers():
        return [draw(hnp.arrays(d, s, elements=elements)) for d, s in zip(dtypes, shapes, strict=True)]

    clients = draw(st.integers(1, 5))
    return layers(), [(draw(st.floats(0.125, 1000, width=32)), layers()) for _ in range(clients)]


@given(rounds())
def test_mean_is_the_weighted_mean_in_the_models_shapes_and_dtypes(example) -> None:
    model, contributions = example
    plain = fl.PlainMean().begin(1, model, range(len(contributions)))
    for client, (weight, update) in enumerate(contributions):
        plain.admit(client, plain.contribute(client, update, weight))
    aggregate = plain.finish()
    weights = [weight for weight, _ in contributions]
    for index, layer in enumerate(model):
        stacked = np.stack([update[index].astype(np.float64) for _, update in contributions])
        assert (aggregate.mean[index].shape, aggregate.mean[index].dtype) == (layer.shape, layer.dtype)
        expected = np.average(stacked, axis=0, weights=weights)
        spacing = np.abs(stacked).max(axis=0, initial=0.0) * float(np.finfo(layer.dtype).eps)
        error = np.abs(aggregate.mean[index].astype(np.float64) - expected)
        assert (error <= spacing + float(np.finfo(layer.dtype).smallest_subnormal)).all()
    assert aggregate.clients == tuple(range(len(contributions)))
    assert aggregate.refused == {}


@given(rounds(), st.randoms(use_true_random=False))
def test_refusals_leave_the_mean_as_it_was(example, random) -> None:
    model, contributions = example

    def mean(disturb: bool) -> list[bytes]:
        plain = fl.PlainMean().begin(1, model, range(len(contributions)))
        for client, (weight, update) in enumerate(contributions):
            payload = plain.contribute(client, update, weight)
            if disturb:
                for bad in (payload[: random.randrange(len(payload))], payload + b"\0", b"\2" + payload[1:]):
                    with pytest.raises(fl.Refused):
                        plain.admit(client, bad)
            plain.admit(client, payload)
            if disturb:
                with pytest.raises(fl.Refused, match="already admitted"):
                    plain.admit(client, payload)
        aggregate = plain.finish()
        assert aggregate.refused == {}
        return [layer.tobytes() for layer in aggregate.mean]

    assert mean(disturb=True) == mean(disturb=False)


MODEL = [np.zeros((2, 3), np.float32), np.zeros((), np.float64), np.zeros(4, np.float16)]


def altered(index: int, value: np.ndarray) -> fl.Weights:
    return [value if i == index else layer for i, layer in enumerate(MODEL)]


@pytest.mark.parametrize(
    ("update", "weight", "reason"),
    [
        (altered(0, np.full((2, 3), np.nan, np.float32)), 1.0, "layer 0: NaN or inf"),
        (altered(1, np.array(-np.inf)), 1.0, "layer 1: NaN or inf"),
        (altered(2, np.zeros(5, np.float16)), 1.0, "layer 2: not of the model's shape (4,) and dtype float16"),
        (altered(0, np.zeros((3, 2), np.float32)), 1.0, "layer 0: not of the model's shape"),
        (altered(1, np.zeros(1)), 1.0, "layer 1: not of the model's shape"),
        (altered(2, np.zeros(4, np.float32)), 1.0, "layer 2: not of the model's shape"),
        (altered(1, np.zeros((), np.int64)), 1.0, "layer 1: dtype int64"),
        (MODEL[:2], 1.0, "layers=2, the model has 3"),
        (MODEL, 0.0, "weight must be"),
        (MODEL, -1.0, "weight must be"),
        (MODEL, float("nan"), "weight must be"),
        (MODEL, float("inf"), "weight must be"),
        (altered(1, np.array(1e308)), 1e10, "layer 1: the weighted sum leaves float64"),
    ],
)
def test_bad_contribution_is_refused_naming_client_and_layer(update, weight, reason) -> None:
    plain = fl.PlainMean().begin(1, MODEL, [4, 5])
    plain.admit(4, plain.contribute(4, MODEL, 1.0))
    with pytest.raises(fl.Refused) as raised:
        plain.admit(5, plain.contribute(5, update, weight))
    assert raised.value.client == 5
    assert raised.value.reason.startswith(reason)
    assert plain.finish().clients == (4,)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda payload: b"", "payload_bytes=0"),
        (lambda payload: payload[:12], "payload_bytes=12"),
        (lambda payload: payload[:-1], "payload_bytes="),
        (lambda payload: payload + b"\0", "payload_bytes="),
        (lambda payload: b"\7" + payload[1:], "payload version 7, this is version 1"),
        (lambda payload: payload[:9] + struct.pack("<I", 2**32 - 1) + payload[13:], "layers=4294967295"),
        (lambda payload: payload[:13] + b"d" + payload[14:], "layer 0: not of the model's"),
        (lambda payload: payload[:15] + struct.pack("<I", 2**31) + payload[19:], "layer 0: not of the model's"),
    ],
)
def test_bad_bytes_are_refused(change, reason) -> None:
    plain = fl.PlainMean().begin(1, MODEL, [5])
    payload = plain.contribute(5, MODEL, 1.0)
    with pytest.raises(fl.Refused) as raised:
        plain.admit(5, change(payload))
    assert raised.value.reason.startswith(reason)
    with pytest.raises(fl.NoContributionsError, match="round 1: no client was admitted, 1 refused"):
        plain.finish()


def test_client_outside_the_cohort_is_refused_and_listed() -> None:
    plain = fl.PlainMean().begin(1, MODEL, [4])
    payload = plain.contribute(4, MODEL, 1.0)
    plain.admit(4, payload)
    with pytest.raises(fl.Refused, match="client 9 refused: not in this round's cohort"):
        plain.admit(9, payload)
    aggregate = plain.finish()
    assert aggregate.refused == {9: "not in this round's cohort"}
    assert aggregate.bytes_up == {4: len(payload), 9: len(payload)}


def test_payload_is_the_values_and_a_small_head() -> None:
    plain = fl.PlainMean().begin(1, [np.zeros(1000, np.float32)], [0])
    assert len(plain.contribute(0, [np.zeros(1000, np.float32)], 1.0)) == 4000 + 13 + 6


def test_model_of_integers_is_the_callers_mistake() -> None:
    with pytest.raises(fl.ParameterError, match="layer 1: dtype int32"):
        fl.PlainMean().begin(1, [np.zeros(1), np.zeros(1, np.int32)], [0])


class Shifted(fl.PlainMean):
    """A stand-in for a lossy private aggregation: layer 1 of its mean is off by 0.25, and it drops client 2 late."""

    def begin(self, round_number, model, cohort):
        inner = super().begin(round_number, model, cohort)
        finish = inner.finish

        def late() -> fl.Aggregate:
            aggregate = finish()
            mean = [layer + 0.25 * (index == 1) for index, layer in enumerate(aggregate.mean)]
            clients = tuple(client for client in aggregate.clients if client != 2)
            return dataclasses.replace(aggregate, mean=mean, clients=clients, refused={2: "faulty"})

        inner.finish = late
        return inner


def test_beside_returns_the_private_result_and_its_deviation() -> None:
    beside = fl.Beside(Shifted(), fl.PlainMean())
    for round_number in (1, 2):
        current = beside.begin(round_number, MODEL, [1, 2])
        for client in (1, 2):
            current.admit(client, current.contribute(client, MODEL, 1.0))
        aggregate = current.finish()
        assert aggregate.mean[1] == 0.25
        assert aggregate.clients == (1,)
    assert beside.deviation == {1: 0.25, 2: 0.25}


def test_beside_counts_for_the_oracle_only_whom_the_private_one_counts() -> None:
    """Client 2's update differs; were it in the oracle's mean, the deviation would be 0.5 more."""
    beside = fl.Beside(Shifted(), fl.PlainMean())
    current = beside.begin(1, MODEL, [1, 2])
    current.admit(1, current.contribute(1, MODEL, 1.0))
    current.admit(2, current.contribute(2, altered(1, np.array(1.0)), 1.0))
    aggregate = current.finish()
    assert aggregate.clients == (1,)
    assert beside.deviation[1] == pytest.approx(abs(float(aggregate.mean[1])))


def test_beside_does_not_hide_a_mean_that_is_not_a_number() -> None:
    class Spoilt(fl.PlainMean):
        def begin(self, round_number, model, cohort):
            inner = super().begin(round_number, model, cohort)
            finish = inner.finish
            inner.finish = lambda: dataclasses.replace(finish(), mean=altered(1, np.array(np.nan)))
            return inner

    beside = fl.Beside(Spoilt(), fl.PlainMean())
    current = beside.begin(1, MODEL, [1])
    current.admit(1, current.contribute(1, MODEL, 1.0))
    current.finish()
    assert np.isnan(beside.deviation[1])


def test_beside_names_who_was_admitted_without_contributing() -> None:
    beside = fl.Beside(fl.PlainMean(), fl.PlainMean())
    current = beside.begin(1, MODEL, [1])
    current.admit(1, fl.PlainMean().begin(1, MODEL, [1]).contribute(1, MODEL, 1.0))
    with pytest.raises(fl.FederationError, match="client 1 was admitted without contributing"):
        current.finish()
