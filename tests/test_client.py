"""contribute: what is sent is what was quantised, and what cannot be sent is refused before anything is claimed."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

import secureagg as sa
from secureagg.errors import ParameterError
from secureagg.he import packing as packing_module
from secureagg.he.deal import BoxContext, unseal
from secureagg.he.sharing import key_sum, verify_shares
from tests.cheating import Parts
from tests.federation import TOYS, Federation, Update, federation, quantised, same, toy_update
from tests.he import reference

SMALL = "INSECURE_N16_Q52"  # where plain integers decrypt quickly


@pytest.fixture(scope="module")
def everyone() -> Iterator[Federation]:
    with federation(parameters=SMALL, max_weight=5) as made:
        yield made


def plaintext(everyone: Federation, payload: bytes) -> list[int]:
    """Return what a contribution encrypts, as the whole committee together could learn it, in plain integers."""
    session, parts = everyone.session, Parts.of(everyone.session, payload)
    dealing, shares = parts.header.dealing(), {}
    for member_id, identity in enumerate(everyone.member_identities):
        prekey = X25519PrivateKey.from_private_bytes(everyone.members[member_id]._journal.stored_prekey(1) or b"")
        context = BoxContext(session.sid, dealing.client_id, member_id, identity.public, session.prekeys[member_id].key)
        plain = unseal(context, prekey, identity.agree, dealing.ephemeral, parts.boxes[member_id])
        challenge = dealing.challenge(session.sid)
        shares[member_id] = verify_shares(everyone.plan.sharing, member_id, challenge, dealing.check, plain)
    sharing = everyone.plan.sharing
    key = tuple(key_sum(sharing, (0, 1, 2), shares).tolist())
    values, errors = reference.decrypt(everyone.plan.packing, session.sid, key, b"".join(parts.frames))
    assert 0 < max(abs(error) for error in errors) <= everyone.plan.error_bound
    return values


@pytest.mark.parametrize("weight", [1, 3, 5, 2.0, np.int64(4)])
def test_what_is_sent_is_the_quantised_update_and_the_weight(everyone: Federation, weight: int) -> None:
    payload = everyone.contribution(1, weight=weight)
    expected = quantised(everyone.plan, everyone.update(1), int(weight), np.random.default_rng(1))
    assert plaintext(everyone, payload) == [*expected, weight]
    assert len(payload) == everyone.plan.bytes_per_client


def test_a_large_update_is_clipped_and_clamped(everyone: Federation) -> None:
    """Norm 100 → 10 by the factor 0.1; then 2 and 1.5 are beyond value_bound 1."""
    update = toy_update(5)
    update[0] = np.zeros((3, 4), dtype=np.float32)
    update[3] = np.array([20.0, -15.0, 5.0, 0.0, np.sqrt(10**4 - 650.0)], dtype=np.float32)
    update[1] = np.array(0.0)
    values = plaintext(everyone, everyone.contribution(0, update=update, weight=5))
    limit = everyone.plan.value_limit
    assert values[:13] == [0] * 13
    assert values[13:15] == [limit, -limit] and values[17:] == [limit, 5]
    assert abs(values[15] - limit / 2) <= 1 and values[16] == 0


def test_rounding_is_seeded_and_nothing_else(everyone: Federation) -> None:
    """Same generator: same plaintext, but keys, errors and boxes are fresh. Another generator: another rounding."""
    first, second = everyone.contribution(2), everyone.contribution(2)
    other = everyone.contribution(2, rounding_rng=np.random.default_rng(77))
    assert plaintext(everyone, first) == plaintext(everyone, second) != plaintext(everyone, other)
    unseeded = [everyone.contribution(2, rounding_rng=None) for _ in range(5)]
    # Two of them round 18 values alike with probability (2/3)^18 or so, all five with 10^-12.
    assert len({tuple(plaintext(everyone, each)) for each in unseeded}) > 1
    a, b = (Parts.of(everyone.session, payload) for payload in (first, second))
    assert a.header.ephemeral != b.header.ephemeral
    assert all(x != y for x, y in zip(a.frames + a.boxes, b.frames + b.boxes, strict=True))


def broken(place: int, value: Any) -> Update:
    update = toy_update(0)
    update[place] = update[place].copy()
    update[place].reshape(-1)[-1:] = value
    return update


def replaced(place: int, tensor: Any) -> list[Any]:
    return [tensor if i == place else t for i, t in enumerate(toy_update(0))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"update": broken(0, np.nan)}, "tensor 0 holds NaN or an infinity; nothing was sent"),
        ({"update": broken(1, np.inf)}, "tensor 1 holds NaN or an infinity"),
        ({"update": broken(3, -np.inf)}, "tensor 3 holds NaN or an infinity"),
        (
            {"update": replaced(0, np.zeros((4, 3), dtype=np.float32))},
            r"tensor 0 is float32\[4, 3\], expected float32\[3, 4\]",
        ),
        ({"update": replaced(2, np.zeros((0, 3), dtype=np.float32))}, "tensor 2 is float32"),
        ({"update": replaced(3, np.zeros(5))}, r"tensor 3 is float64\[5\], expected float32\[5\]"),
        ({"update": replaced(3, np.zeros(5, dtype=np.int32))}, "tensor 3 has dtype int32"),
        ({"update": replaced(1, 0.5)}, "tensor 1 is a float; give numpy arrays"),
        ({"update": toy_update(0)[:3]}, "3 tensors given, 4 expected"),
        ({"update": broken(1, 1e308)}, "too large to be clipped"),
        *(
            ({"weight": weight}, r"weight \(at most the plan's max_weight\) must be a whole number in \[1, 5\]$")
            for weight in (0, 6, -1, 1.5, True, None, "2", float("nan"), float("inf"), 2**400, np.float32(2.5))
        ),
    ],
)
def test_what_cannot_be_sent_is_refused_and_nothing_claimed(
    everyone: Federation, arguments: dict[str, Any], message: str
) -> None:
    identity = sa.Identity(everyone.clients[0].to_seed())
    out = io.BytesIO(b"before")
    for target in (None, out):
        with pytest.raises(ParameterError, match=message):
            sa.contribute(everyone.session, identity, **({"update": everyone.update(0)} | arguments), out=target)
    assert out.getvalue() == b"before"
    sa.contribute(everyone.session, identity, everyone.update(0))


def test_an_identity_contributes_once_per_round_number(everyone: Federation) -> None:
    identity = sa.Identity(everyone.clients[0].to_seed())
    sa.contribute(everyone.session, identity, everyone.update(0))
    changed = everyone.session_of(1, model=everyone.update(3))
    for session in (everyone.session, changed):
        with pytest.raises(ParameterError, match="already contributed to round 1 under this roster"):
            sa.contribute(session, identity, everyone.update(0))
    sa.contribute(everyone.session_of(2), identity, everyone.update(0))


def test_strangers_and_members_do_not_contribute(everyone: Federation) -> None:
    for identity in (sa.Identity(bytes(32)), everyone.member_identities[0]):
        with pytest.raises(ParameterError, match="not a client on the roster"):
            sa.contribute(everyone.session, identity, everyone.update(0))


def test_errors_show_no_value(everyone: Federation) -> None:
    for arguments in ({"update": replaced(1, np.array(123456.789e300))}, {"weight": 123456}):
        with pytest.raises(ParameterError) as caught:
            everyone.contribution(0, **arguments)
        assert "123456" not in str(caught.value)


def mean_of_two(everyone: Federation, first: Update, second: Update, **arguments: Any) -> list[np.ndarray]:
    aggregator = sa.Aggregator(everyone.session)
    for client_id, update in enumerate((first, second)):
        aggregator.admit(everyone.contribution(client_id, update=update, **arguments))
    request = aggregator.close()
    return aggregator.open([member.respond(everyone.session, request) for member in everyone.members]).mean


@given(st.data())
@settings(max_examples=100)
def test_layers_and_frames_are_invisible(data: st.DataObject) -> None:
    """However d values are cut into tensors, and chunks into frames: the same mean, bit for bit, and the same bytes."""
    size = data.draw(st.sampled_from([1, 15, 16, 17, 47, 48, 49, 150]))
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=4)))
    flat = [np.random.default_rng(size + i).uniform(-0.2, 0.2, size) for i in range(2)]
    means, lengths = [], []
    for edges in ([0, size], [0, *cuts, size]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packing_module, "FRAME_RESIDUES", data.draw(st.sampled_from([1, 32, 1 << 16])))
            updates = [[vector[a:b] for a, b in pairwise(edges)] for vector in flat]
            with federation(parameters=SMALL, layout=sa.Layout.of(updates[0])) as made:
                means.append(np.concatenate(mean_of_two(made, *updates)))
                lengths.append(made.plan.bytes_per_client - 32 * len(made.plan.packing.frames))
                grids = zip(
                    *(quantised(made.plan, u, 1, np.random.default_rng(i)) for i, u in enumerate(updates)), strict=True
                )
                expected = np.array([a + b for a, b in grids]) * (1 / (made.plan.quantiser.scale * 2))
    assert means[0].tobytes() == means[1].tobytes() == expected.tobytes()
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize("name", TOYS)
def test_a_file_and_memory_maps_have_the_same_effect(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Updates read from disk and contributions written behind other bytes of a file: the same sum, bit for bit."""
    monkeypatch.setattr(packing_module, "FRAME_RESIDUES", 256)
    update = [np.random.default_rng(1).uniform(-0.2, 0.2, shape).astype(np.float32) for shape in ((40, 50), (333,))]
    mapped = []
    for i, tensor in enumerate(update):
        np.save(tmp_path / f"{i}.npy", tensor)
        mapped.append(np.load(tmp_path / f"{i}.npy", mmap_mode="r"))
    with federation(parameters=name, layout=sa.Layout.of(update), committee=sa.Committee(1)) as made:
        assert len(made.plan.packing.frames) >= 3
        path, length = tmp_path / "contributions", made.plan.bytes_per_client
        with path.open("w+b") as file:
            file.write(b"magic")
            for client_id in range(2):
                assert made.contribution(client_id, update=mapped, out=file) is None
                assert file.tell() == 5 + (client_id + 1) * length
        with path.open("rb") as file:
            file.seek(5)
            aggregator = sa.Aggregator(made.session)
            for client_id in range(2):
                assert aggregator.admit(io.BytesIO(file.read(length))) == client_id
            assert file.read() == b""
        request = aggregator.close()
        found = aggregator.open([made.members[0].respond(made.session, request)]).mean
    with federation(parameters=name, layout=sa.Layout.of(update), committee=sa.Committee(1)) as made:
        assert same(found, mean_of_two(made, update, update))


class Pipe(io.RawIOBase):
    def writable(self) -> bool:
        return True


@pytest.mark.parametrize(
    "opened",
    [
        lambda path: Pipe(),
        lambda path: path.open("w", encoding="utf-8"),
        lambda path: path.open("a+b"),  # would write each piece at the end
        lambda path: path.open("rb"),
    ],
    ids=["a pipe", "text", "appending", "for reading"],
)
def test_a_file_that_takes_no_contribution_is_refused_before_the_round_is_claimed(
    everyone: Federation, tmp_path: Path, opened: Callable[[Path], Any]
) -> None:
    (tmp_path / "out").write_bytes(b"")
    identity = sa.Identity(everyone.clients[0].to_seed())
    with opened(tmp_path / "out") as out, pytest.raises(sa.ParameterError, match="no binary file that can be written"):
        sa.contribute(everyone.session, identity, everyone.update(0), out=out)
    sa.contribute(everyone.session, identity, everyone.update(0))


@pytest.mark.parametrize("size", [10**6, 4 * 10**6])
def test_neither_side_needs_more_than_some_megabytes_beside_the_update(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the guide says: file to file, of memory-mapped values; the aggregator beside its running sum."""
    monkeypatch.setenv("SECUREAGG_THREADS", "2")  # each has buffers of its own
    values = np.memmap(tmp_path / "values", np.float32, "w+", shape=(size,))
    values[:] = 1e-4
    plan = sa.RoundPlan(
        layout=sa.Layout.of([values]), clients=4, quorum=2, l2_clip=1.0, value_bits=16, committee=sa.Committee(3)
    )
    identities = [sa.Identity.generate() for _ in range(4)]
    members = [sa.CommitteeMember(sa.Identity.generate(), journal=tmp_path / f"journal-{n}") for n in range(3)]
    roster = sa.Roster([each.public for each in identities], [each.public for each in members])
    session = sa.Session(plan, roster, prekeys=[m.prekey(1) for m in members], round_number=1, model=[values])
    aggregator = sa.Aggregator(session)
    with (tmp_path / "out").open("w+b") as file:
        for work in (
            lambda: sa.contribute(session, identities[0], [values], out=file),
            lambda: aggregator.admit(file),
        ):
            file.seek(0)
            tracemalloc.start()
            work()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 16 * 2**20
