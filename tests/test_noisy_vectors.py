"""The stored rounds with noise: the generator makes them again, every part of the noise is bound into the session, an
independent verifier accepts them and names what was altered.

That the library repeats them is in test_vectors.py, with those without noise.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import secureagg as sa
from secureagg.dp.noise import noise_table
from secureagg.dp.noise_laws import GAUSSIAN, SKELLAM
from secureagg.errors import EncodingError
from secureagg.selfcheck.vectors import NOISY, STORED, Stored, load, payloads_of, session_of
from tests.test_vectors import Change, flip, later, put

VECTORS = Path(__file__).with_name("vectors")
FILES = Path(str(STORED)) / "noisy"


def test_the_generator_makes_the_stored_files_byte_for_byte(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.vectors.generate_noisy", str(tmp_path)]
    subprocess.run(command, check=True, cwd=VECTORS.parent.parent, capture_output=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in FILES.iterdir()}
    assert {Path(name).stem for name in made} == set(NOISY)


def test_every_law_and_every_adder_is_stored_narrow_and_wide() -> None:
    plans = [sa.RoundPlan.from_bytes(load(f"noisy/{name}")["plan"].encode(), allow_insecure=True) for name in NOISY]
    noises = [plan.noise for plan in plans if plan.noise is not None]
    pairs = {(noise.name, noise.noise_by) for noise in noises}
    distributed = {(kind.name, by) for kind in (sa.DistributedGaussian, sa.Skellam) for by in ("clients", "committee")}
    assert pairs == distributed | {(sa.CentralGaussian.name, "aggregator")}
    skellams = [noise_table(SKELLAM, noise.std**2).bits for noise in noises if isinstance(noise, sa.Skellam)]
    gaussians = [noise_table(GAUSSIAN, noise.std).bits for noise in noises if not isinstance(noise, sa.Skellam)]
    assert {min(skellams), min(gaussians)} == {0} and max(skellams) > 0 and max(gaussians) > 0
    assert max(len(plan.packing.frames) for plan in plans) > 1


# The plan's noise, altered.


def noise_with(name: str, value: Any) -> Change:
    """Alter a field of the plan's noise; the plan stays in canonical form."""

    def change(stored: Stored) -> None:
        fields = json.loads(stored["plan"])
        fields["noise"][name] = value
        stored["plan"] = json.dumps(fields, sort_keys=True, separators=(",", ":"))

    return change


NOISES: dict[str, tuple[Change, str]] = {
    "epsilon": (noise_with("epsilon", (31.0).hex()), "session id"),
    "delta": (noise_with("delta", (2e-5).hex()), "session id"),
    "rounds": (noise_with("rounds", 1), "session id"),
    "its deviation": (noise_with("noise_std_grid", (61.0).hex()), "plan: derived numbers"),
    "its law": (noise_with("mechanism", "skellam"), "plan: derived numbers"),
    "who adds it": (noise_with("noise_by", "clients"), "plan: derived numbers"),
}


@pytest.mark.parametrize("name", NOISES)
def test_every_part_of_the_noise_is_bound_into_the_session(name: str, verifier: Any) -> None:
    stored, (change, reason) = load("noisy/gaussian-committee"), NOISES[name]
    change(stored)
    session = session_of(stored)
    assert session.sid.hex() != stored["session_id"] and session.plan.digest().hex() != stored["plan_digest"]
    for payload in payloads_of(stored).values():
        # Another deviation or law can make other lengths, too.
        with pytest.raises(EncodingError, match=r"made for another session|bytes, \d+ expected"):
            sa.Aggregator(session).admit(payload)
    with pytest.raises(verifier.Refused, match=f"^{reason}$"):
        verifier.verify_stored(stored)


# The independent verifier


@pytest.fixture
def verifier(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(VECTORS)
    return importlib.import_module("verify")


def test_the_verifier_accepts_the_stored_rounds() -> None:
    command = [sys.executable, str(VECTORS / "verify.py"), *(str(FILES / f"{name}.json") for name in NOISY)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "3 contributions, 3 in the sum, 3 share sums, noise by clients",
        "3 contributions, 3 in the sum, 2 share sums, noise by clients",
        "9 contributions, 7 in the sum, 4 share sums, noise by committee",
        "6 contributions, 6 in the sum, 3 share sums, noise by committee",
        "3 contributions, 3 in the sum, 3 share sums, noise by aggregator",
    ]


def without(*path: str | int) -> Change:
    def change(stored: Stored) -> None:
        *parents, last = path
        place: Any = stored
        for key in parents:
            place = place[key]
        del place[last]

    return change


def beyond(bound: int) -> Change:
    """A client's noise and grid value altered alike, as if it had drawn so much."""

    def change(stored: Stored) -> None:
        first = stored["contributions"][0]
        first["grid"][0] += bound - first["noise"][0]
        first["noise"][0] = bound

    return change


CLIENTS, COMMITTEE, CENTRAL = "gaussian-clients", "gaussian-committee", "central"
T = load(f"noisy/{CLIENTS}")["derived"]["T"]

ALTERED: dict[str, tuple[str, Change, str]] = {
    "how many may contribute": (COMMITTEE, put("derived", "a", later), "plan: derived numbers"),
    "what the noise stays within": (CLIENTS, put("derived", "T", later), "plan: derived numbers"),
    "what Skellam noise stays within": ("skellam-committee", put("derived", "T", later), "plan: derived numbers"),
    "weights": (
        CLIENTS,
        put("plan", lambda plan: plan.replace('"max_weight":1', '"max_weight":2')),
        "plan: noise with weights",
    ),
    "an adder the law has not": (CENTRAL, noise_with("noise_by", "clients"), "plan: who adds the noise"),
    "a client's noise": (CLIENTS, put("contributions", 1, "noise", 5, lambda v: v + 2), "contribution 1: grid values"),
    "a client's noise left out": (CLIENTS, without("contributions", 1, "noise"), "contribution 1: noise"),
    "a client's noise beyond its bound": (CLIENTS, beyond(T + 1), "contribution 0: noise beyond its bound"),
    "a client's noise within its bound": (CLIENTS, beyond(T), "contribution 0: decryption"),
    "a member's noise": (COMMITTEE, put("noise_contributions", 0, "grid", 3, later), "contribution 4: decryption"),
    "whose noise it is": (COMMITTEE, put("noise_contributions", 0, "member", 1), "contributions: order"),
    "a member's session": (COMMITTEE, flip("noise_contributions", 3, "bytes", at=5), "contribution: session id"),
    "a member's id": (COMMITTEE, flip("noise_contributions", 0, "bytes", at=37), "contribution 5: signature"),
    "a member's id, made nobody's": (
        COMMITTEE,
        flip("noise_contributions", 0, "bytes", at=38),
        "contribution 260: not on the roster",
    ),
    "a member's signature": (COMMITTEE, flip("noise_contributions", 4, "bytes", at=41), "contribution 8: signature"),
    "a member's box": (COMMITTEE, flip("noise_contributions", 4, "bytes", at=-1), "contribution 8: box digest"),
    "who complains of a member": (
        COMMITTEE,
        put("noise_contributions", 2, "unacceptable_to", [0]),
        "contribution 6: share check",
    ),
    "a member's noise left out": (COMMITTEE, without("noise_contributions", 4), "check request"),
    "whose noise is in the sum": (
        COMMITTEE,
        put("result", "noise_members", [0, 1, 2, 3, 4]),
        "result: members whose noise is in the sum",
    ),
    "the aggregator's noise": (CENTRAL, put("result", "noise", 0, lambda v: v + 40), "result: mean"),
    "the aggregator's noise left out": (CENTRAL, without("result", "noise"), "result: noise"),
    "the sum before the aggregator's noise": (CENTRAL, put("result", "sums", 0, later), "result: sums"),
    "noise of an aggregator that has none to add": (CLIENTS, put("result", "noise", [0] * 233), "result: noise"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_the_verifier_names_what_was_altered(name: str, verifier: Any) -> None:
    of, change, reason = ALTERED[name]
    stored = load(f"noisy/{of}")
    change(stored)
    with pytest.raises(verifier.Refused) as refusal:
        verifier.verify_stored(stored)
    assert str(refusal.value) == reason
