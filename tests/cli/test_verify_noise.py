"""`secureagg verify` on a round whose committee added noise: its contributions are counted, and faults named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from secureagg.cli.exit_codes import ExitCode
from tests.cli.runs import Invoke
from tests.noise import admitted, noisy_federation, opened

MEMBER = 2  # whose contribution is number 4 + 2


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Four clients, and the noise of five members, four of whom answered; member 4's came late, beside the spool."""
    with noisy_federation(proofs=True) as everyone:
        path = tmp_path_factory.mktemp("noisy")
        opened(everyone, admitted(everyone, members=[0, 1, 2, 3], spool=path / "spool"), range(4))
        (path / "late").write_bytes(everyone.members[4].add_noise(everyone.session))
        yield path


@pytest.fixture
def spool(stored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored / "spool", tmp_path / "spool"))


def test_noise_is_counted_beside_the_clients(invoke: Invoke, spool: Path, stored: Path) -> None:
    ended = invoke("verify", "--allow-insecure", str(spool), str(stored / "late"))
    words = " ".join(ended.out.split())
    assert ended.code == 0
    for text in (
        "contributions 9 of 4 clients and 5 members signed, undamaged, proven",
        "sum 4 clients, noise of 4 members is what the tally lists",
        "contributions in the sum 8 of 8 in it as they were sent",
        "Why the valid noise of members is not in the sum: 4.",
    ):
        assert text in words


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("proof", "the proof is not the one that was signed; the tally counts a contribution of this committee member"),
        ("copy", "a second contribution of this committee member; 6.contribution is another"),
        ("name", "the file is named for committee member 4"),
    ],
)
def test_a_fault_has_its_members_name(invoke: Invoke, spool: Path, damage: str, reason: str) -> None:
    file = spool / f"{4 + MEMBER}.contribution"
    if damage == "proof":
        payload = bytearray(file.read_bytes())
        payload[-1] ^= 1
        file.write_bytes(payload)
    else:
        shutil.copy(file, target := spool / ("8.contribution" if damage == "name" else "again"))
        if damage == "name":
            file.unlink()
        file = target
    extra = [str(file)] if damage == "copy" else []
    ended = invoke("verify", "--allow-insecure", str(spool), *extra, "--json")
    (failing,) = json.loads(ended.out)["failing"]
    assert ended.code == ExitCode.FAULTY_PARTY
    assert (failing["client"], failing["member"], failing["file"]) == (None, MEMBER, str(file))
    assert reason in failing["reason"]
    said = invoke("verify", "--allow-insecure", str(spool), *extra)
    assert f"committee member {MEMBER}, its noise: " in said.out
