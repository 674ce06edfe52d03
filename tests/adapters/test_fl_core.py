"""`TensealAggregation` as the engine sees it: the plain mean's equal, and whom it refuses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core import Beside, NoContributionsError, PlainMean, Refused, Weights
from secureagg import MissingExtraError, ParameterError
from secureagg.adapters.fl_core import TensealAggregation, TensealRound
from secureagg.he import tenseal

MAGNITUDE, PRECISION, MAX_WEIGHT = 0.5, 1e-6, 40
MODEL: Weights = [np.zeros((3, 2), np.float32), np.zeros((), np.float64), np.zeros((0, 4), np.float32)]


@pytest.fixture(scope="module")
def aggregation() -> TensealAggregation:
    return TensealAggregation(4, MAGNITUDE, PRECISION, MAX_WEIGHT)


def update_of(seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-MAGNITUDE, MAGNITUDE, layer.shape).astype(layer.dtype) for layer in MODEL]


def with_value(value: float) -> Weights:
    update = update_of(0)
    update[0][1, 1] = value
    return update


class TestMean:
    @settings(max_examples=25)
    @given(
        seed=st.integers(0, 2**32 - 1),
        weights=st.lists(st.integers(1, MAX_WEIGHT), min_size=1, max_size=4),
        shapes=st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), max_size=4),
    )
    def test_is_the_plain_mean_within_the_precision(
        self, seed: int, weights: list[int], shapes: list[tuple[int, ...]]
    ) -> None:
        model: Weights = [np.zeros(shape, np.float64) for shape in [*shapes, (2,)]]
        beside = Beside(TensealAggregation(4, MAGNITUDE, PRECISION, MAX_WEIGHT), PlainMean())
        current = beside.begin(7, model, range(len(weights)))
        rng = np.random.default_rng(seed)
        for client, weight in enumerate(weights):
            update: Weights = [rng.uniform(-MAGNITUDE, MAGNITUDE, layer.shape) for layer in model]
            current.admit(client, current.contribute(client, update, float(weight)))
        aggregate = current.finish()
        assert aggregate.clients == tuple(range(len(weights)))
        assert [(layer.shape, layer.dtype) for layer in aggregate.mean] == [(m.shape, m.dtype) for m in model]
        assert beside.deviation[7] <= PRECISION

    @pytest.mark.parametrize("seeded", [False, True])
    def test_repeats_bit_for_bit_under_another_key(self, seeded: bool) -> None:
        means = []
        for _ in range(2):
            current = TensealAggregation(4, MAGNITUDE, PRECISION, MAX_WEIGHT, seeded).begin(1, MODEL, range(3))
            for client in range(3):
                current.admit(client, current.contribute(client, update_of(client), client + 1.0))
            means.append(current.finish().mean)
        assert all(np.array_equal(first, second) for first, second in zip(*means, strict=True))

    def test_seeded_contributions_take_half_the_bytes(self, aggregation: TensealAggregation) -> None:
        seeded = TensealAggregation(4, MAGNITUDE, PRECISION, MAX_WEIGHT, seeded=True)
        sizes = [len(a.begin(1, MODEL, [0]).contribute(0, update_of(0), 1.0)) for a in (seeded, aggregation)]
        assert sizes[0] < 0.55 * sizes[1]

    def test_accounts_for_its_bytes_and_seconds(self, aggregation: TensealAggregation) -> None:
        current = aggregation.begin(1, MODEL, range(2))
        payloads = {client: current.contribute(client, update_of(client), 1.0) for client in range(2)}
        for client, payload in payloads.items():
            current.admit(client, payload)
        aggregate = current.finish()
        assert aggregate.bytes_up == {client: len(payload) for client, payload in payloads.items()}
        assert set(aggregate.seconds) == {"contribute", "admit", "finish"}
        assert min(aggregate.seconds.values()) > 0


class TestRefusals:
    @pytest.mark.parametrize(
        ("update", "weight", "reason"),
        [
            (with_value(float("nan")), 1.0, "tensor 0"),
            (with_value(float("inf")), 1.0, "tensor 0"),
            (with_value(1.01 * MAGNITUDE), 1.0, "tensor 0"),
            (update_of(0)[:2], 1.0, "2 tensors given, 3 expected"),
            ([np.zeros((2, 3), np.float32), *update_of(0)[1:]], 1.0, "tensor 0"),
            ([update_of(0)[0], np.zeros((), np.float32), update_of(0)[2]], 1.0, "tensor 1"),
            (update_of(0), MAX_WEIGHT + 1.0, "weight"),
            (update_of(0), 0.0, "weight"),
            (update_of(0), float("nan"), "weight"),
        ],
    )
    def test_contribute_names_client_and_cause(
        self, aggregation: TensealAggregation, update: Weights, weight: float, reason: str
    ) -> None:
        with pytest.raises(Refused, match=reason) as caught:
            aggregation.begin(1, MODEL, range(4)).contribute(3, update, weight)
        assert caught.value.client == 3

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda payload: payload[:-1], "checksum"),
            (lambda payload: payload[:100] + bytes([payload[100] ^ 1]) + payload[101:], "checksum"),
            (lambda payload: b"", "payload"),
            (lambda payload: payload + b"\0", "checksum"),
        ],
        ids=["truncated", "flipped", "empty", "trailing"],
    )
    def test_damaged_bytes(self, aggregation: TensealAggregation, spoil: Callable[[bytes], bytes], reason: str) -> None:
        self.refuses(aggregation, lambda current: spoil(current.contribute(1, update_of(1), 1.0)), reason)

    def test_another_key(self, aggregation: TensealAggregation) -> None:
        other = TensealAggregation(4, MAGNITUDE, PRECISION, MAX_WEIGHT)
        payload = other.begin(1, MODEL, range(4)).contribute(1, update_of(1), 1.0)
        self.refuses(aggregation, lambda current: payload, "key")

    def test_other_parameters(self, aggregation: TensealAggregation) -> None:
        other = TensealAggregation(4, MAGNITUDE, PRECISION, MAX_WEIGHT + 1)
        payload = other.begin(1, MODEL, range(4)).contribute(1, update_of(1), 1.0)
        self.refuses(aggregation, lambda current: payload, "parameters")

    def test_another_layout(self, aggregation: TensealAggregation) -> None:
        payload = tenseal.encrypt(aggregation.public, [np.zeros(7, np.float32)])
        self.refuses(aggregation, lambda current: payload, "tensors")

    def test_a_sum_of_several(self, aggregation: TensealAggregation) -> None:
        both = tenseal.add([tenseal.encrypt(aggregation.public, update_of(seed)) for seed in range(2)])
        self.refuses(aggregation, lambda current: both, "a sum of 2 contributions, at most 1 is taken")

    def test_what_somebody_else_sent(self, aggregation: TensealAggregation) -> None:
        current = aggregation.begin(1, MODEL, range(4))
        payload = current.contribute(0, update_of(0), 1.0)
        current.admit(0, payload)
        with pytest.raises(Refused, match="already") as caught:
            current.admit(1, payload)
        assert caught.value.client == 1
        assert current.finish().refused.keys() == {1}

    def test_a_second_one_leaves_the_first(self, aggregation: TensealAggregation) -> None:
        current = aggregation.begin(1, MODEL, range(4))
        current.admit(2, current.contribute(2, update_of(2), 1.0))
        with pytest.raises(Refused, match="already admitted") as caught:
            current.admit(2, current.contribute(2, update_of(3), 1.0))
        assert caught.value.client == 2
        aggregate = current.finish()
        assert (aggregate.clients, aggregate.refused) == ((2,), {})
        assert np.allclose(aggregate.mean[0], update_of(2)[0], atol=2 * PRECISION)

    def test_somebody_who_is_not_in_the_cohort(self, aggregation: TensealAggregation) -> None:
        current = aggregation.begin(1, MODEL, [0, 1])
        with pytest.raises(Refused, match="cohort") as caught:
            current.admit(2, current.contribute(2, update_of(2), 1.0))
        assert caught.value.client == 2

    def test_nobody_is_left(self, aggregation: TensealAggregation) -> None:
        with pytest.raises(NoContributionsError):
            aggregation.begin(1, MODEL, range(4)).finish()

    def refuses(
        self, aggregation: TensealAggregation, payload_of: Callable[[TensealRound], bytes], reason: str
    ) -> None:
        """Client 1 is refused for `reason`, and the mean is that of the others alone."""
        current = aggregation.begin(1, MODEL, range(4))
        oracle = PlainMean().begin(1, MODEL, range(4))
        current.admit(0, current.contribute(0, update_of(0), 2.0))
        payload = payload_of(current)
        with pytest.raises(Refused, match=reason) as caught:
            current.admit(1, payload)
        assert caught.value.client == 1
        current.admit(2, current.contribute(2, update_of(2), 3.0))
        aggregate = current.finish()
        assert aggregate.clients == (0, 2)
        assert aggregate.refused == {1: caught.value.reason}
        assert aggregate.bytes_up[1] == len(payload)
        for client, weight in ((0, 2.0), (2, 3.0)):
            oracle.admit(client, oracle.contribute(client, update_of(client), weight))
        for mean, plain in zip(aggregate.mean, oracle.finish().mean, strict=True):
            assert np.allclose(mean, plain, rtol=0, atol=2 * PRECISION)


class TestConstruction:
    def test_what_cannot_be_carried_is_refused(self) -> None:
        with pytest.raises(ParameterError):
            TensealAggregation(4, magnitude=1.0, precision=1e-30)

    def test_a_missing_extra_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "tenseal", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'secureagg\[tenseal\]'"):
            TensealAggregation(4, MAGNITUDE, PRECISION)
