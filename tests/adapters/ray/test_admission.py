"""A round whose contributions are verified and summed by Ray is the round that admits them one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import secureagg as sa
from secureagg.adapters.ray import RayExecutor
from secureagg.errors import FaultyClientError, ParameterError
from secureagg.verification import Verdict, verify_many
from tests.adapters import common
from tests.federation import Federation, federation, frames_of, same

REFUSED = 2


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "proofs"])
def everyone(request: pytest.FixtureRequest) -> Iterator[Federation]:
    with federation(common.plan_of(proofs=request.param)) as made:
        yield made


def stored(everyone: Federation, folder: Path, *, damaged: int | None = None) -> list[Path]:
    """Store every client's contribution to round 1; flip the last bit of one."""
    paths = []
    for client in range(common.CLIENTS):
        payload = bytearray(
            everyone.contribution(
                client,
                update=common.update_of(client),
                weight=common.WEIGHTS[client],
                rounding_rng=common.rounding_of(client),
            )
        )
        if client == damaged:
            payload[-1] ^= 1
        paths.append(folder / f"{client}.received")
        paths[-1].write_bytes(payload)
    return paths


def opened(everyone: Federation, aggregator: sa.Aggregator, round_number: int) -> sa.Result:
    session = aggregator._session
    reports = None
    if session.plan.committee.mode == "robust":
        check = aggregator.share_check()
        reports = [member.check(session, check) for member in everyone.members]
    request = aggregator.close(reports)
    return aggregator.open([member.respond(session, request) for member in everyone.members])


def test_the_sum_is_the_one_every_adapter_must_find(
    everyone: Federation, executor: RayExecutor, tmp_path: Path
) -> None:
    paths = stored(everyone, tmp_path)
    aggregator, streaming = sa.Aggregator(everyone.session), sa.Aggregator(everyone.session)
    assert aggregator.admit_many(paths, executor=executor) == [Verdict(c, None) for c in range(common.CLIENTS)]
    for path in paths:
        streaming.admit(path.read_bytes())
    assert frames_of(aggregator) == frames_of(streaming) and aggregator.clients == streaming.clients
    result = opened(everyone, aggregator, 1)
    assert common.digest_of(common.sums_in(result.mean, result.total_weight), result.total_weight) == common.EXPECTED
    assert same(result.mean, common.expected_mean())


def test_a_refused_client_is_named_the_same(everyone: Federation, executor: RayExecutor, tmp_path: Path) -> None:
    paths = stored(everyone, tmp_path, damaged=REFUSED)
    aggregator, streaming = (sa.Aggregator(everyone.session, spool=tmp_path / name) for name in ("many", "each"))
    verdicts = aggregator.admit_many(paths, executor=executor)
    for path in paths:
        if path == paths[REFUSED]:
            with pytest.raises(FaultyClientError) as caught:
                streaming.admit(path.read_bytes())
        else:
            streaming.admit(path.read_bytes())
    assert verdicts[REFUSED] == Verdict(caught.value.client_id, caught.value.reason) and caught.value.client_id == 2
    assert [v.reason is None for v in verdicts] == [True, True, False, True]
    assert aggregator.clients == streaming.clients == (0, 1, 3) and frames_of(aggregator) == frames_of(streaming)
    for client in aggregator.clients:
        files = [tmp_path / name / f"{client}.contribution" for name in ("many", "each")]
        assert files[0].read_bytes() == files[1].read_bytes() == paths[client].read_bytes()
    assert verify_many(everyone.session, paths, executor=executor) == verdicts


def test_many_parts_and_a_client_that_comes_twice(executor: RayExecutor, tmp_path: Path) -> None:
    clients = 60
    layout = sa.Layout.of([np.zeros(300, np.float32)])
    with federation(clients=clients, layout=layout) as everyone:
        paths = []
        for number, client in enumerate([*range(clients), 5, 59]):
            paths.append(tmp_path / str(number))
            paths[-1].write_bytes(everyone.contribution(client))
        aggregator, streaming = sa.Aggregator(everyone.session), sa.Aggregator(everyone.session)
        verdicts = aggregator.admit_many(paths, executor=executor)
        assert [(v.client_id, v.reason is None) for v in verdicts] == [
            *((client, True) for client in range(clients)),
            (5, False),
            (59, False),
        ]
        assert streaming.admit_many(paths) == verdicts and frames_of(aggregator) == frames_of(streaming)
        assert same(opened(everyone, aggregator, 1).mean, everyone.expected(range(clients)))


def test_a_file_that_a_worker_cannot_read_is_named(executor: RayExecutor, tmp_path: Path) -> None:
    with federation() as everyone, pytest.raises(ParameterError, match="absent' cannot be read: No such file"):
        sa.Aggregator(everyone.session).admit_many([str(tmp_path / "absent")], executor=executor)
