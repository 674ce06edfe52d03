"""The stored vectors: the library reads and repeats them, the generator makes them again, an independent verifier
accepts them and names what was altered.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secureagg as sa
from secureagg.exchange import EVERY_MEMBER, Request, RevealAnswer, ShareCheck
from secureagg.journal import Journal
from secureagg.ring.masks import fill_public
from secureagg.ring.params import ring_parameters
from secureagg.ring.xof import PublicExpansion
from secureagg.roster import Label
from secureagg.selfcheck.vectors import NOISY, STORED, Stored, load, payloads_of, redrawn, session_of, tensors

VECTORS = Path(__file__).with_name("vectors")
FILES = Path(str(STORED))
ROUNDS = ("optimistic", "robust", "tiny")

Change = Callable[[Stored], None]


def members_of(stored: Stored, directory: Path) -> list[sa.CommitteeMember]:
    """The vector's committee, each with a journal that already holds its prekey."""
    members = []
    for m, (seed, secret) in enumerate(zip(stored["member_seeds"], stored["prekey_secrets"], strict=True)):
        Journal(directory / str(m)).prekey(stored["round_number"], bytes.fromhex(secret))
        members.append(sa.CommitteeMember(sa.Identity(bytes.fromhex(seed)), journal=directory / str(m)))
    return members


def request_hashes(session: sa.Session, request: Request) -> dict[str, str]:
    members = (*range(session.plan.committee.size), EVERY_MEMBER)
    return {str(m): hashlib.sha256(request.for_member(m)).hexdigest() for m in members}


# The library


@pytest.mark.parametrize("name", [*ROUNDS, *(f"noisy/{name}" for name in NOISY)])
def test_the_library_repeats_a_stored_round_from_its_bytes(name: str, tmp_path: Path) -> None:
    stored = load(name)
    session, members = session_of(stored), members_of(stored, tmp_path)
    assert session.sid.hex() == stored["session_id"] and session.plan.digest().hex() == stored["plan_digest"]
    assert [member.prekey(session.round_number).hex() for member in members] == stored["prekeys"]

    payloads = payloads_of(stored)
    aggregator = sa.Aggregator(session, spool=tmp_path / "spool")
    assert [aggregator.admit(payload) for payload in payloads.values()] == list(payloads)
    reports = None
    if session.plan.committee.mode == "robust":
        check = aggregator.share_check()
        assert request_hashes(session, check) == stored["requests"]["check"]
        reports = [member.check(session, check) for member in members]
        assert [report.hex() for report in reports] == stored["share_checks"]
    request = aggregator.close(reports)
    assert request_hashes(session, request) == stored["requests"]["reveal"]

    answering = [RevealAnswer.from_bytes(bytes.fromhex(each), session).member_id for each in stored["answers"]]
    answers = [members[member].respond(session, request) for member in answering]
    assert [answer.hex() for answer in answers] == stored["answers"]

    result, expected = aggregator.open(answers), stored["result"]
    assert list(result.clients) == expected["clients"] and result.total_weight == expected["total_weight"]
    assert list(result.noise_members) == expected.get("noise_members", [])
    mean = redrawn(session, expected) if "noise_seed" in expected else result.mean
    for found, wanted in zip(mean, tensors(session.plan.layout, expected["mean"]), strict=True):
        assert found.dtype == wanted.dtype and np.array_equal(found, wanted)
    assert result.tally is not None and result.tally.hex() == stored["tally"]
    sa.verify_tally(session, result.tally, contributions=[payloads[each] for each in request.clients])


def test_the_library_draws_the_stored_residues() -> None:
    ring = ring_parameters("INSECURE_N64_Q208", allow_insecure=True)
    row = ring.degree * len(ring.primes)
    stored = load("expansion")["residues"]
    assert sum(each["refused"] for each in stored) == 2
    for each in stored:
        chunk = np.empty((1, len(ring.primes), ring.degree), dtype=np.uint64)
        expansion = PublicExpansion(bytes.fromhex(each["sid"]), each["label"])
        fill_public(chunk, expansion, each["position"] // row, ring.primes)
        assert int(chunk.reshape(-1)[each["position"] % row]) == each["residue"]


def test_the_generator_makes_the_stored_files_byte_for_byte(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.vectors.generate", str(tmp_path)]
    subprocess.run(command, check=True, cwd=VECTORS.parent.parent, capture_output=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in FILES.glob("*.json")}


# The independent verifier


@pytest.fixture
def verifier(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(VECTORS)
    return importlib.import_module("verify")


def test_the_verifier_shares_no_code_with_the_library() -> None:
    imported: set[str] = set()
    for path in (VECTORS / f"{name}.py" for name in ("verify", "messages", "by_hand")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.module is not None and node.level == 0
                imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"by_hand", "messages", "cryptography"}
    loaded = "import sys, verify; print(*{name.split('.')[0] for name in sys.modules})"
    command = [sys.executable, "-P", "-c", loaded]
    environment = {**os.environ, "PYTHONPATH": str(VECTORS)}
    run = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    assert "verify" in run.stdout.split() and not {"secureagg", "numpy", "numba"} & set(run.stdout.split())


def test_the_verifier_accepts_the_stored_vectors() -> None:
    files = sorted(str(path) for path in FILES.glob("*.json"))
    command = [sys.executable, str(VECTORS / "verify.py"), *files]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "5 residues",
        "4 contributions, 4 in the sum, 3 share sums",
        "5 contributions, 4 in the sum, 3 share sums",
        "2 contributions, 2 in the sum, 2 share sums",
    ]


def flip(*path: str | int, at: int = 0) -> Change:
    """Flip the lowest bit of byte `at` of the hex string at this place."""

    def change(stored: Stored) -> None:
        *parents, last = path
        place: Any = stored
        for key in parents:
            place = place[key]
        encoded = bytearray.fromhex(place[last])
        encoded[at] ^= 1
        place[last] = encoded.hex()

    return change


def put(*path: Any) -> Change:
    """Replace what stands at a place; the last argument is the new value, or a function of the old one."""

    def change(stored: Stored) -> None:
        *parents, last, new = path
        place: Any = stored
        for key in parents:
            place = place[key]
        place[last] = new(place[last]) if callable(new) else new

    return change


def later(number: int) -> int:
    return number + 1


def swapped(items: list[Any]) -> list[Any]:
    return [items[1], items[0], *items[2:]]


HEADER, CIPHERTEXT, BOX = (load("robust")["derived"][name] for name in ("header", "ciphertext", "box"))
FIRST = ("contributions", 0, "bytes")

ALTERED: dict[str, tuple[Change, str]] = {
    "another version of the vector": (put("format", "secureagg test vector v2"), "vector: format"),
    "the plan has a space": (put("plan", lambda plan: plan.replace(":", ": ", 1)), "plan: not in canonical form"),
    "another version of the plan": (put("plan", lambda plan: plan.replace("plan v1", "plan v2")), "plan: format"),
    "the plan's quorum": (put("plan", lambda plan: plan.replace('"quorum":4', '"quorum":5')), "session id"),
    "a quorum without two honest": (put("plan", lambda plan: plan.replace('"quorum":4', '"quorum":3')), "plan: quorum"),
    "two disjoint thresholds": (
        put("plan", lambda plan: plan.replace('"assumed_corrupt":0', '"assumed_corrupt":1')),
        "plan: 3t > 2k + c",
    ),
    "the plan's digest": (flip("plan_digest"), "plan digest"),
    "a derived number": (put("derived", "delta", later), "plan: derived numbers"),
    "the roster's magic": (flip("roster", at=0), "roster: magic"),
    "the roster's version": (flip("roster", at=4), "roster: version"),
    "the roster's counts": (flip("roster", at=5), "roster: not the plan's counts"),
    "a client's public key": (flip("roster", at=13), "session id"),
    "a prekey's version": (flip("prekeys", 1, at=4), "prekey 1: version"),
    "a prekey's round": (flip("prekeys", 1, at=5), "prekey 1: round number"),
    "a prekey's owner": (flip("prekeys", 1, at=13), "prekey 1: not this member's"),
    "a prekey's key": (flip("prekeys", 1, at=77), "prekey 1: signature"),
    "a prekey's signature": (flip("prekeys", 1, at=109), "prekey 1: signature"),
    "prekeys in another order": (put("prekeys", swapped), "prekey 0: not this member's"),
    "the round number": (put("round_number", later), "prekey 0: round number"),
    "the model": (flip("model", 0, at=9), "session id"),
    "the session id": (flip("session_id"), "session id"),
    "a secret prekey": (flip("prekey_secrets", 0, at=5), "secret keys of member 0"),
    "a member's seed": (flip("member_seeds", 2, at=5), "secret keys of member 2"),
    "a contribution's length": (put(*FIRST, lambda encoded: encoded + "00"), "contribution: length"),
    "a contribution's magic": (flip(*FIRST, at=0), "contribution: magic"),
    "a contribution's version": (flip(*FIRST, at=4), "contribution: version"),
    "a contribution's session": (flip(*FIRST, at=5), "contribution: session id"),
    "a contribution's client": (flip(*FIRST, at=37), "contribution 1: signature"),
    "a client off the roster": (flip(*FIRST, at=38), "contribution 256: not on the roster"),
    "a contribution's signature": (flip(*FIRST, at=41), "contribution 0: signature"),
    "an ephemeral key": (flip(*FIRST, at=105), "contribution 0: signature"),
    "a frame's digest": (flip(*FIRST, at=137), "contribution 0: signature"),
    "a check polynomial": (flip(*FIRST, at=HEADER - 4), "contribution 0: signature"),
    "a ciphertext": (flip(*FIRST, at=HEADER), "contribution 0: frame digest"),
    "the last frame": (flip(*FIRST, at=HEADER + CIPHERTEXT - 1), "contribution 0: frame digest"),
    "a box": (flip(*FIRST, at=HEADER + CIPHERTEXT), "contribution 0: box digest"),
    "a box's tag": (flip(*FIRST, at=-1), "contribution 0: box digest"),
    "contributions in another order": (put("contributions", 0, "client", 1), "contributions: order"),
    "an update": (flip("contributions", 0, "update", 0, at=3), "contribution 0: grid values"),
    "a weight": (put("contributions", 0, "weight", 2), "contribution 0: grid values"),
    "a grid value": (put("contributions", 0, "grid", 0, lambda v: v + 2), "contribution 0: grid values"),
    "who complains": (put("contributions", 1, "unacceptable_to", []), "contribution 1: share check"),
    "a check request": (flip("requests", "check", "1"), "check request"),
    "a share check's version": (flip("share_checks", 0, at=4), "share check: version"),
    "a share check's session": (flip("share_checks", 0, at=5), "share check: session id"),
    "a share check's complaints": (flip("share_checks", 0, at=74), "share check of member 0: signature"),
    "a share check left out": (put("share_checks", lambda reports: reports[:2] + reports[3:]), "result: clients"),
    "a reveal request": (flip("requests", "reveal", "255"), "reveal request"),
    "an answer's version": (flip("answers", 2, at=4), "answer: version"),
    "an answer's session": (flip("answers", 2, at=5), "answer: session id"),
    "an answer's request": (flip("answers", 2, at=38), "answer of member 2: signature"),
    "an answer's sums": (flip("answers", 2, at=79), "answer of member 2: signature"),
    "an answer of a stranger": (
        put("answers", 2, lambda answer: answer[:74] + "09" + answer[76:]),
        "answer: not on the roster",
    ),
    "an answer left out": (put("answers", lambda answers: answers[:2]), "answers: fewer than t"),
    "the clients in the sum": (put("result", "clients", [0, 1, 2]), "result: clients"),
    "an integer sum": (put("result", "sums", 7, later), "result: sums"),
    "the total weight": (put("result", "total_weight", later), "result: total weight"),
    "the mean": (flip("result", "mean", 0, at=2), "result: mean"),
    "the tally's version": (flip("tally", at=4), "tally: version"),
    "the tally's session": (flip("tally", at=5), "tally: session id"),
    "a client in the tally": (flip("tally", at=41), "tally: entries"),
    "a digest in the tally": (flip("tally", at=45), "tally: entries"),
    "a product in the tally": (flip("tally", at=77), "tally: product of client 0"),
    "the sum in the tally": (flip("tally", at=-9), "tally: product of client 0"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_the_verifier_names_what_was_altered(name: str, verifier: Any) -> None:
    change, reason = ALTERED[name]
    stored = load("robust")
    change(stored)
    with pytest.raises(verifier.Refused) as refusal:
        verifier.verify_stored(stored)
    assert str(refusal.value) == reason


def resigned(stored: Stored, index: int, edit: Callable[[bytearray], None]) -> None:
    """Edit a contribution as its own client could: with digests and signature that fit."""
    each, derived = stored["contributions"][index], stored["derived"]
    encoded = bytearray.fromhex(each["bytes"])
    edit(encoded)
    frames, members = 2, 4
    at, digests = derived["header"], []
    for size in [*[1664, 416], *[derived["box"]] * members]:
        digests.append(hashlib.sha256(encoded[at : at + size]).digest())
        at += size
    assert at == len(encoded) and len(digests) == frames + members
    encoded[137 : 137 + 32 * len(digests)] = b"".join(digests)
    ciphertext = hashlib.sha256(b"".join(digests[:frames])).digest()
    covered = [encoded[5:41], ciphertext, encoded[105:137], *digests[frames:]]
    challenge = hashlib.sha256(b"".join(covered)).digest()
    check = bytes(encoded[137 + 32 * len(digests) : derived["header"]])
    client = sa.Identity(bytes.fromhex(stored["client_seeds"][each["client"]]))
    encoded[41:105] = client.sign(Label.CONTRIBUTION, challenge + check)
    each["bytes"] = encoded.hex()


def set_bits(encoded: bytearray, at: int, count: int) -> None:
    encoded[at : at + count] = b"\xff" * count


def swap_boxes(encoded: bytearray) -> None:
    first, second, third = HEADER + CIPHERTEXT, HEADER + CIPHERTEXT + BOX, HEADER + CIPHERTEXT + 2 * BOX
    encoded[first:third] = encoded[second:third] + encoded[first:second]


def borrow(stored: Stored) -> None:
    """Client 2 sends what client 0 dealt: its ephemeral key, boxes and check."""
    other = bytes.fromhex(stored["contributions"][0]["bytes"])

    def edit(encoded: bytearray) -> None:
        encoded[105:137] = other[105:137]
        encoded[297:] = other[297:]

    resigned(stored, 2, edit)


def sign_answer(stored: Stored, index: int, edit: Callable[[RevealAnswer], RevealAnswer]) -> None:
    session = session_of(stored)
    answer = edit(RevealAnswer.from_bytes(bytes.fromhex(stored["answers"][index]), session))
    member = sa.Identity(bytes.fromhex(stored["member_seeds"][answer.member_id]))
    signature = member.sign(Label.REVEAL, answer.message(session.sid))
    signed = RevealAnswer(answer.member_id, answer.request, answer.sums, answer.complaints, signature)
    stored["answers"][index] = signed.to_bytes(session.sid).hex()


def complain(stored: Stored) -> None:
    session = session_of(stored)
    report = ShareCheck.from_bytes(bytes.fromhex(stored["share_checks"][2]), session)
    report = ShareCheck(2, report.request, (4,))
    member = sa.Identity(bytes.fromhex(stored["member_seeds"][2]))
    signature = member.sign(Label.SHARE_CHECK, report.message(session.sid))
    stored["share_checks"][2] = ShareCheck(2, report.request, (4,), signature).to_bytes(session.sid).hex()


def sums_replaced(by: Callable[[bytes], bytes]) -> Change:
    return lambda stored: sign_answer(
        stored, 1, lambda a: RevealAnswer(a.member_id, a.request, by(a.sums), a.complaints)
    )


RESIGNED: dict[str, tuple[Change, str]] = {
    "a box that does not open": (
        lambda stored: resigned(stored, 0, lambda encoded: set_bits(encoded, HEADER + CIPHERTEXT, 1)),
        "contribution 0: share check",
    ),
    "boxes of two members exchanged": (lambda stored: resigned(stored, 0, swap_boxes), "contribution 0: share check"),
    "another client's boxes": (borrow, "contribution 2: share check"),
    "a check polynomial": (
        lambda stored: resigned(stored, 0, lambda encoded: encoded.__setitem__(329, encoded[329] ^ 1)),
        "contribution 0: share check",
    ),
    "another ciphertext under the same check": (
        lambda stored: resigned(stored, 0, lambda encoded: encoded.__setitem__(HEADER, encoded[HEADER] ^ 1)),
        "contribution 0: share check",
    ),
    "a residue that is its prime or more": (
        lambda stored: resigned(stored, 0, lambda encoded: set_bits(encoded, HEADER, 7)),
        "contribution 0: ciphertext: not in canonical form",
    ),
    "a field element that is p or more": (
        sums_replaced(lambda sums: b"\xff\xff" + sums[2:]),
        "answer of member 1: not in canonical form",
    ),
    "other share sums": (sums_replaced(lambda sums: bytes([sums[0] ^ 1]) + sums[1:]), "answer of member 1: sums"),
    "too few share sums": (sums_replaced(lambda sums: sums[:-1]), "answer of member 1: length of the sums"),
    "an answer to another request": (
        lambda stored: sign_answer(stored, 1, lambda a: RevealAnswer(a.member_id, bytes(32), a.sums, a.complaints)),
        "answer of member 1: another request",
    ),
    "a complaint without ground": (complain, "share check of member 2: complaints"),
}


@pytest.mark.parametrize("name", RESIGNED)
def test_the_verifier_names_what_was_altered_and_signed(name: str, verifier: Any) -> None:
    change, reason = RESIGNED[name]
    stored = load("robust")
    change(stored)
    with pytest.raises(verifier.Refused) as refusal:
        verifier.verify_stored(stored)
    assert str(refusal.value) == reason


def test_the_verifier_decrypts_each_contribution(verifier: Any) -> None:
    stored = load("optimistic")
    before = copy.deepcopy(stored["contributions"][0]["grid"])
    for step in (1, -1):  # one of the two is the other rounding of the same value, which only decryption refutes
        stored["contributions"][0]["grid"][0] = before[0] + step
        with pytest.raises(verifier.Refused, match=r"contribution 0: (decryption|grid values)") as refusal:
            verifier.verify_stored(stored)
        if "decryption" in str(refusal.value):
            break
    assert str(refusal.value) == "contribution 0: decryption"


@pytest.mark.parametrize(
    ("field", "reason"), [("word", "word"), ("refused", "refusal"), ("residue", "residue"), ("position", "word")]
)
def test_the_verifier_checks_expansions(field: str, reason: str, verifier: Any) -> None:
    stored = load("expansion")
    entry = stored["residues"][3]
    entry[field] = not entry[field] if field == "refused" else entry[field] + 1
    with pytest.raises(verifier.Refused, match=f"^expansion: {reason}$"):
        verifier.verify_stored(stored)
