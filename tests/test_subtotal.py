"""Many stored contributions, verified and summed in parts by an executor: the same comes of them as one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import secureagg as sa
from secureagg.errors import EncodingError, FaultyClientError, ParameterError
from secureagg.events import Event
from secureagg.subtotal import is_the_verified, subtotal
from secureagg.verification import Verdict, verify_many, view_of
from tests.federation import Federation, federation, frames_of, same
from tests.proving import finished, proven_federation

ALREADY_ADMITTED = "a contribution of this client is already admitted"
CLIENTS = 40  # more than one part of three files, so that doubles meet across parts


class Here(Executor):
    """Runs each call at once, and then `after`, in this thread."""

    def __init__(self, after: Callable[[], object] = lambda: None) -> None:
        self.after = after

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        self.after()
        return future


@pytest.fixture(scope="module")
def everyone() -> Iterator[Federation]:
    with federation(clients=CLIENTS, committee=sa.Committee(3, mode="robust")) as made:
        yield made


@pytest.fixture(scope="module")
def stored(everyone: Federation, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every client's contribution, and among them what is refused: each kind of fault, and clients that come twice."""
    folder = tmp_path_factory.mktemp("stored")
    payloads = [everyone.contribution(client) for client in range(CLIENTS)]
    header, last = everyone.plan.header_bytes, everyone.plan.bytes_per_client - 1
    inserted = {
        4: _flipped(payloads[4], header),  # before the right one, which is then admitted
        7: payloads[6],  # twice, one after the other
        20: payloads[0],  # twice, far apart
        21: _flipped(payloads[1], last),  # twice, the second one damaged
        25: b"",
        26: payloads[25] + b"0",
        27: _flipped(payloads[27], 41),
        30: _flipped(payloads[30], 5),
        31: _flipped(payloads[31], 38),
    }
    for place, payload in sorted(inserted.items(), reverse=True):
        payloads.insert(place, payload)
    paths = [folder / f"{number}" for number in range(len(payloads))]
    for path, payload in zip(paths, payloads, strict=True):
        path.write_bytes(payload)
    return paths


def _flipped(payload: bytes, place: int) -> bytes:
    altered = bytearray(payload)
    altered[place] ^= 1
    return bytes(altered)


def one_by_one(aggregator: sa.Aggregator, paths: list[Path]) -> list[Verdict]:
    verdicts = []
    for path in paths:
        try:
            verdicts.append(Verdict(aggregator.admit(path.read_bytes()), None))
        except FaultyClientError as error:
            verdicts.append(Verdict(error.client_id, error.reason))
        except EncodingError:
            verdicts.append(Verdict(None, ""))
    return verdicts


def named(verdicts: list[Verdict]) -> list[Verdict]:
    """Leave out why a file is refused that names no client: a length is told in other words of a file."""
    return [each if each.client_id is not None else Verdict(None, "") for each in verdicts]


def admitting(everyone: Federation, paths: list[Path]) -> sa.Aggregator:
    """Return an aggregator that has admitted these files one by one."""
    aggregator = sa.Aggregator(everyone.session)
    for path in paths:
        aggregator.admit(path.read_bytes())
    return aggregator


def require_alike(found: sa.Aggregator, expected: sa.Aggregator) -> None:
    assert found.clients == expected.clients and frames_of(found) == frames_of(expected)
    for client in found.clients:
        mine, other = found._spool.view(client), expected._spool.view(client)
        assert bytes(mine.header()) == bytes(other.header()) and bytes(mine.box(0)) == bytes(other.box(0))


@pytest.mark.parametrize("executor", [None, Here(), ThreadPoolExecutor(2)], ids=["none", "here", "threads"])
@pytest.mark.parametrize("in_directory", [False, True])
def test_what_comes_of_many_is_what_comes_of_each(
    everyone: Federation, stored: list[Path], tmp_path: Path, executor: Executor | None, in_directory: bool
) -> None:
    spools = (tmp_path / "many", tmp_path / "each") if in_directory else (None, None)
    many, each = (sa.Aggregator(everyone.session, spool=spool) for spool in spools)
    told: list[Event] = []
    verdicts = many.admit_many(stored, executor=executor, observe=told.append)
    assert named(verdicts) == one_by_one(each, stored)
    assert {v.client_id for v in verdicts if v.reason} == {None, 0, 1, 4, 6, 27}
    assert [v.reason for v in verdicts if v.client_id == 1] == [None, ALREADY_ADMITTED]
    require_alike(many, each)
    assert (told[-1].done, told[-1].total, told[-1].stage) == (len(stored), len(stored), "admit")
    assert [event.done for event in told] == sorted({event.done for event in told})
    assert many.admit_many(stored[:3], executor=executor) == [Verdict(c, ALREADY_ADMITTED) for c in range(3)]
    assert many.admit_many([], executor=executor) == []


def test_with_proofs_too(tmp_path: Path) -> None:
    with proven_federation() as everyone:
        paths = []
        for client in range(4):
            paths.append(tmp_path / str(client))
            payload = everyone.contribution(client)
            paths[-1].write_bytes(_flipped(payload, everyone.plan.bytes_per_client - 9) if client == 2 else payload)
        aggregator = sa.Aggregator(everyone.session)
        verdicts = aggregator.admit_many(paths, executor=Here())
        assert verdicts == verify_many(everyone.session, paths) and [v.reason is None for v in verdicts] == [1, 1, 0, 1]
        assert same(finished(everyone, aggregator).mean, everyone.expected([0, 1, 3]))


def test_members_noise_is_admitted_and_refused_the_same(tmp_path: Path) -> None:
    noise = sa.DistributedGaussian(epsilon=8.0, delta=1e-5, rounds=1, noise_by="committee")
    with federation(noise=noise, l2_clip=1.0, value_bound=None, value_bits=8, parameters="N2048_Q52") as everyone:
        session, clients = everyone.session, everyone.plan.clients
        payloads = [member.add_noise(session) for member in everyone.members]
        payloads += [
            everyone.contribution(0, rounding_rng=None),
            payloads[0],
            _flipped(everyone.members[2].add_noise(session), -1),
        ]
        payloads[2] = _flipped(payloads[2], everyone.plan.header_bytes)
        paths = [tmp_path / str(number) for number in range(len(payloads))]
        for path, payload in zip(paths, payloads, strict=True):
            path.write_bytes(payload)
        many, each = sa.Aggregator(session), sa.Aggregator(session)
        verdicts = many.admit_many(paths, executor=Here())
        assert verdicts == each.admit_many(paths)
        ids = [clients, clients + 1, clients + 2, 0, clients, clients + 2]
        assert [v.client_id for v in verdicts] == ids and [v.reason is None for v in verdicts] == [1, 1, 0, 1, 0, 0]
        assert verdicts[4].reason == "a contribution of this member is already admitted"
        assert (many.noise_members, many.clients) == ((0, 1), (0,)) and frames_of(many) == frames_of(each)


@pytest.mark.parametrize("part", ["signature", "ciphertext", "length"])
def test_a_file_that_changes_after_it_was_verified_is_looked_at_again(
    everyone: Federation, stored: list[Path], tmp_path: Path, part: str
) -> None:
    """The part is admitted one by one then: the other client is in the sum, and this one refused by name."""
    paths = [tmp_path / "0", tmp_path / "1"]
    for client, path in enumerate(paths):
        path.write_bytes(stored[client].read_bytes())
    payload = paths[1].read_bytes()
    changed = {
        "signature": _flipped(payload, 41),
        "ciphertext": _flipped(payload, everyone.plan.header_bytes),
        "length": payload + b"0",
    }[part]
    aggregator = sa.Aggregator(everyone.session)
    first, second = aggregator.admit_many(paths, executor=Here(lambda: paths[1].write_bytes(changed)))
    assert first == Verdict(0, None) and second.reason and second.client_id == (None if part == "length" else 1)
    require_alike(aggregator, admitting(everyone, stored[:1]))


def test_a_file_that_is_gone_after_it_was_verified_is_named(
    everyone: Federation, stored: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "0"
    path.write_bytes(stored[0].read_bytes())
    aggregator = sa.Aggregator(everyone.session)
    with pytest.raises(ParameterError, match="cannot be read: No such file"):
        aggregator.admit_many([path], executor=Here(path.unlink))
    assert aggregator.clients == ()


def test_another_right_contribution_put_in_its_place_is_the_one_that_counts(
    everyone: Federation, stored: list[Path], tmp_path: Path
) -> None:
    path, other = tmp_path / "0", everyone.contribution(0)
    path.write_bytes(stored[0].read_bytes())
    aggregator, expected = sa.Aggregator(everyone.session), sa.Aggregator(everyone.session)
    assert aggregator.admit_many([path], executor=Here(lambda: path.write_bytes(other))) == [Verdict(0, None)]
    expected.admit(other)
    require_alike(aggregator, expected)


def test_what_cannot_be_kept_is_not_counted(
    everyone: Federation, stored: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the second of two: the first is in, as after a single admission."""
    aggregator = sa.Aggregator(everyone.session, spool=tmp_path / "spool")
    real, renamed = os.rename, []

    def rename(source: str, target: str) -> None:
        if renamed:
            raise OSError(28, "No space left on device")
        renamed.append(target)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr("secureagg.aggregator._LEAST_PARTS", 1)
    with pytest.raises(OSError, match="No space left"):
        aggregator.admit_many(stored[:3], executor=Here())
    monkeypatch.undo()
    assert aggregator.clients == (0,)
    assert aggregator.admit_many(stored[:3], executor=Here())[0] == Verdict(0, ALREADY_ADMITTED)
    require_alike(aggregator, admitting(everyone, stored[:3]))
    require_alike(sa.Aggregator(everyone.session, spool=tmp_path / "spool"), aggregator)


def test_nothing_is_admitted_after_the_set_is_fixed(everyone: Federation, stored: list[Path]) -> None:
    aggregator = everyone.aggregator([0, 1])
    aggregator.share_check()
    with pytest.raises(ParameterError, match="has fixed the set of clients"):
        aggregator.admit_many(stored[8:9], executor=Here())
    late = everyone.aggregator([0, 1])
    with pytest.raises(ParameterError, match="has fixed the set of clients"):
        late.admit_many(stored[8:9], executor=Here(late.share_check))
    assert late.clients == (0, 1)


@pytest.mark.parametrize("executor", [None, Here()], ids=["none", "here"])
def test_a_file_that_cannot_be_read_is_named(everyone: Federation, tmp_path: Path, executor: Executor | None) -> None:
    with pytest.raises(ParameterError, match="absent' cannot be read: No such file"):
        sa.Aggregator(everyone.session).admit_many([str(tmp_path / "absent")], executor=executor)


def test_a_subtotal_tells_what_it_counts(everyone: Federation, stored: list[Path]) -> None:
    found = subtotal(everyone.session, stored[:3])
    assert set(found.digests) == {0, 1, 2} and list(found.frames) == frames_of(admitting(everyone, stored[:3]))
    for client, path in enumerate(stored[:3]):
        payload = path.read_bytes()
        for other in range(3):
            view = view_of(everyone.session, payload)
            assert is_the_verified(everyone.session, other, view, found) == (other == client)
        for place in (5, 41, 140, everyone.plan.header_bytes, len(payload) - 1):
            view = view_of(everyone.session, _flipped(payload, place))
            assert not is_the_verified(everyone.session, client, view, found)
