"""secureagg.he.seal_files: SEAL objects as bytes, and TenSEAL loaded only when it is needed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from secureagg.errors import EncodingError, MissingExtraError, ParameterError
from secureagg.he.seal_files import SealFile, seal_context, sealapi

N, PRIMES = 2048, (1099511590913,)


@pytest.fixture(params=["memory", "temporary"])
def file(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SealFile:
    if request.param == "temporary":
        monkeypatch.delattr(os, "memfd_create")
    return SealFile()


def secret() -> object:
    return sealapi().KeyGenerator(seal_context(N, PRIMES)).secret_key()


def test_what_is_dumped_loads_again(file: SealFile) -> None:
    with file:
        long, short = file.dump(secret()), file.dump(seal_context(N, PRIMES).key_context_data().parms())
        assert len(short) < len(long)  # a shorter object after a longer one leaves nothing of it behind
        loaded = sealapi().SecretKey()
        file.load(loaded, seal_context(N, PRIMES), long, "key")
        assert file.dump(loaded) == long


def test_the_temporary_file_is_private_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with SealFile() as file:
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
    assert not os.path.exists(file.path)
    file.close()  # twice is once


def test_without_proc_a_temporary_file_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    with SealFile() as file:
        assert "/proc/" not in file.path


@pytest.mark.parametrize(
    "change", ["empty", "nine bytes", "truncated", "extended", "garbage", "header alone", "compressed part"]
)
def test_bytes_that_are_not_one_whole_object_are_refused(file: SealFile, change: str) -> None:
    with file:
        encoded = bytearray(file.dump(secret()))
        if change == "empty":
            encoded.clear()
        elif change == "nine bytes":
            encoded[8:] = b"\x09"  # which an object of nine bytes would say
        elif change == "truncated":
            del encoded[-1]
        elif change == "extended":
            encoded += b"\0"
        elif change == "garbage":
            encoded[0] ^= 1
        elif change == "header alone":
            encoded[8:] = (16).to_bytes(8, "little")
        else:
            encoded[20] ^= 0xFF
        with pytest.raises(EncodingError, match=r"^key: "):
            file.load(sealapi().SecretKey(), seal_context(N, PRIMES), bytes(encoded), "key")


@pytest.mark.parametrize(
    ("ring_degree", "primes"),
    [
        (N, ()),
        (N, (PRIMES[0] + 2,)),  # not ≡ 1 mod 2N
        (N, (4097 * 4097,)),  # ≡ 1 mod 2N, not a prime
        (N, (PRIMES[0], PRIMES[0])),
        (N, (2**61,)),
        (2000, PRIMES),
        (-1, PRIMES),
        (N, (1152921504606830593,)),  # 60 bits: above SEAL's 54 for N = 2048
    ],
)
def test_sets_that_seal_refuses(ring_degree: int, primes: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="SEAL refuses"):
        seal_context(ring_degree, primes)


def test_a_missing_tenseal_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'secureagg\[tenseal\]'"):
        sealapi()


def test_importing_does_not_load_tenseal() -> None:
    code = "import sys, secureagg, secureagg.he.tenseal; sys.exit('tenseal' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
