"""Weighted means of model updates under CKKS, through the SEAL that TenSEAL ships: the reference path.

    public, secret = generate_keys(clients=10, magnitude=1.0, precision=1e-6)
    payload = encrypt(public, weights)               # a client
    total = add([payload, …])                        # the aggregator, which holds no key
    mean = decrypt(secret, total)                    # the key holder

What it protects: an aggregator without the secret key learns nothing from payloads but who sent them, how many
there are, and their layout. What it does not: **the key holder can open any single payload**; when clients hold the
secret key (for seeded encryption) that is every client. Nothing is authenticated; see `tenseal_wire`.

A model is one vector, so neither bytes nor time depend on the number of its layers. Its coordinates and then the
weight fill ciphertexts in order, N grid values each (`tenseal_grid`): coordinate 2k is the real part of slot k,
coordinate 2k + 1 the imaginary part. The rest of the last ciphertext is zero, and checked to be zero.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import EncodingError, ParameterError, UnattributedFault
from secureagg.he.seal_files import SealFile, SealObject, seal_errors, sealapi
from secureagg.he.tenseal_keys import PublicKey, SecretKey, generate_keys
from secureagg.he.tenseal_parameters import ROUNDING_LIMIT, CkksParameters, choose_parameters
from secureagg.he.tenseal_wire import NONCE_BYTES, Expected, Payload
from secureagg.layout import Layout, Weights

__all__ = [
    "Accumulator",
    "CkksParameters",
    "PublicKey",
    "SecretKey",
    "add",
    "choose_parameters",
    "decrypt",
    "encrypt",
    "generate_keys",
]


def encrypt(key: PublicKey | SecretKey, weights: Weights, weight: float = 1.0) -> bytes:
    """Return a contribution to the weighted mean. With the secret key it is seeded: half the bytes, and quicker.

    Each call draws new randomness and a new nonce; sending the same bytes twice counts as a duplicate.

    Raises: ParameterError with the tensor's index, never a value: NaN, ±inf, a value above the planned magnitude,
    a tensor that is not of floats; a weight outside [1, max_weight]; no coordinate at all.
    """
    parameters = key.parameters
    layout = Layout.of(weights)
    layout.check(weights)
    parameters.grid.check_magnitude(weights)
    grid_weight = parameters.grid.quantise_weight(weight)
    weights = [np.ascontiguousarray(tensor) for tensor in weights]  # so that gather copies slices only
    seal, context = sealapi(), parameters.context()
    encoder, plain = seal.CKKSEncoder(context), seal.Plaintext()
    encrypt_plain = _encryption(key, context)
    ciphertexts = []
    with SealFile() as file:
        for start in range(0, layout.size + 1, parameters.ring_degree):
            block = np.zeros(parameters.ring_degree)
            stop = min(start + parameters.ring_degree, layout.size)
            block[: stop - start] = parameters.grid.quantise(layout.gather(weights, start, stop), weight)
            if stop - start < parameters.ring_degree:
                block[stop - start] = grid_weight
            encoder.encode(block.view(np.complex128).tolist(), parameters.scale, plain)
            ciphertexts.append(file.dump(encrypt_plain(plain)))
    return Payload(parameters, key.key_id, layout, (os.urandom(NONCE_BYTES),), ciphertexts).to_bytes()


class Accumulator:
    """The sum so far. Its memory is two sums (one is for staging) and 16 bytes a contribution.

    A payload that is refused changes nothing. Without `layout` the first payload's holds for all, whoever sent it and
    however large a model it names (compressed, a ciphertext of few values is some hundred bytes): an aggregator that
    knows the model gives its layout. Not for two threads at once.
    """

    def __init__(self, public: PublicKey, layout: Layout | None = None) -> None:
        self._begin(public.parameters, public.key_id, layout)

    @classmethod
    def like(cls, payload: bytes) -> Accumulator:
        """Return an empty accumulator for payloads of the same key and layout as this one."""
        first = Payload.from_bytes(payload)
        accumulator = cls.__new__(cls)
        try:
            accumulator._begin(first.parameters, first.key_id, first.layout)
        except ParameterError as error:
            raise EncodingError(f"payload: {error}") from error
        return accumulator

    def _begin(self, parameters: CkksParameters, key_id: bytes, layout: Layout | None) -> None:
        self._parameters, self._key_id, self._layout = parameters, key_id, layout
        self._context = parameters.context()
        self._evaluator = sealapi().Evaluator(self._context)
        self._nonces: set[bytes] = set()
        self._sum: list[SealObject] = []
        self._staged: list[SealObject] = []

    @property
    def contributions(self) -> int:
        """How many contributions are inside."""
        return len(self._nonces)

    def add(self, payload: bytes, *, at_most: int | None = None) -> None:
        """Add a contribution, or a sum of contributions. Their order changes no bit of the result.

        at_most: how many may be inside; 1 where each client sends its own, as a sum takes the places of others.

        Raises: EncodingError: damaged bytes or an unknown version; another key, other parameters, another layout
        (the tensor is named); a contribution that is already inside; more contributions than clients were planned, or
        `at_most`; a ciphertext that SEAL refuses.
        """
        incoming = Payload.from_bytes(payload, Expected(self._parameters, self._key_id, self._layout))
        if at_most is not None and len(incoming.nonces) > at_most:
            raise EncodingError(f"payload: a sum of {len(incoming.nonces)} contributions, at most {at_most} is taken")
        repeated = self._nonces.intersection(incoming.nonces)
        if repeated:
            raise EncodingError(f"payload: contribution {min(repeated).hex()} has already been added")
        count, clients = self.contributions + len(incoming.nonces), self._parameters.grid.clients
        if count > clients:
            raise EncodingError(f"payload: contributions ≤ clients={clients} is required, this would make {count}")
        self._stage(incoming)
        self._sum, self._staged = self._staged, self._sum
        self._nonces.update(incoming.nonces)
        self._layout = incoming.layout

    def _stage(self, incoming: Payload) -> None:
        """Make `_staged` the sum with `incoming`, and touch nothing else."""
        if len(self._staged) != len(incoming.ciphertexts):  # none yet, or those of a payload that was refused
            self._staged = [sealapi().Ciphertext() for _ in incoming.ciphertexts]
        with SealFile() as file:
            for index, encoded in enumerate(incoming.ciphertexts):
                staged = self._staged[index]
                _load_ciphertext(staged, file, self._parameters, encoded, index)
                if self._sum:
                    with seal_errors(f"ciphertext {index}"):  # a sum that hides nothing: its second half cancels
                        self._evaluator.add(self._sum[index], staged, staged)

    def to_bytes(self) -> bytes:
        """Return the sum, equal for equal contributions. Raises: ParameterError if nothing was added."""
        if self._layout is None or not self._sum:
            raise ParameterError("nothing was added; a sum needs at least one contribution")
        with SealFile() as file:
            ciphertexts = [file.dump(ciphertext) for ciphertext in self._sum]
        nonces = tuple(sorted(self._nonces))
        return Payload(self._parameters, self._key_id, self._layout, nonces, ciphertexts).to_bytes()


def add(payloads: Iterable[bytes]) -> bytes:
    """Return the sum of contributions under one key; the first payload says which. Needs no key.

    Raises: EncodingError naming the position of the payload it refuses, for the reasons `Accumulator.add` lists;
    ParameterError if there is none.
    """
    accumulator: Accumulator | None = None
    for position, payload in enumerate(payloads):
        try:
            accumulator = accumulator or Accumulator.like(payload)
            accumulator.add(payload)
        except EncodingError as error:
            raise EncodingError(f"position {position}: {error}") from error
    if accumulator is None:
        raise ParameterError("no payload given; a sum needs at least one contribution")
    return accumulator.to_bytes()


def decrypt(secret: SecretKey, total: bytes, layout: Layout | None = None) -> list[NDArray[np.floating[Any]]]:
    """Return the weighted mean of the contributions in `total` (one alone is opened as well).

    layout: the model's; without it, the one that `total` names, however large.

    Guarantees: every sum is the exact integer sum of what was encrypted, or nothing is returned.

    Raises: EncodingError: damaged bytes, another key, other parameters or another layout, a ciphertext SEAL refuses.
    UnattributedFault: the content is not a sum that honest contributions give: a slot farther than 1/4 from an
    integer (wrong key, a wrapped sum), above the bound for that many contributions, not zero where it must be, or a
    mean that its tensor's dtype cannot hold.
    """
    payload = Payload.from_bytes(total, Expected(secret.parameters, secret.key_id, layout))
    grid, size, count = payload.parameters.grid, payload.layout.size, len(payload.nonces)
    sums = _decrypt_sums(secret, payload)
    values, weight_sum, padding = sums[:size], float(sums[size]), sums[size + 1 :]
    if padding.any():
        raise UnattributedFault("a slot beyond the weight is not zero")
    if np.abs(values).max() > count * grid.contribution_bound:
        raise UnattributedFault(f"|Σv| ≤ contributions · B = {count} · {grid.contribution_bound} does not hold")
    largest_weight = grid.quantise_weight(grid.max_weight)
    if not count * grid.unit_weight <= weight_sum <= count * largest_weight:
        raise UnattributedFault(
            f"{count} · {grid.unit_weight} ≤ Σm ≤ {count} · {largest_weight:.0f} does not hold for the sum of "
            "weights; the number of contributions inside is not the announced one"
        )
    try:
        return payload.layout.unflatten(grid.mean(values, weight_sum))
    except ParameterError as error:
        raise UnattributedFault(f"the mean: {error}") from error


def _decrypt_sums(secret: SecretKey, payload: Payload) -> NDArray[np.float64]:
    """Return all slots as whole numbers, float64[ciphertexts·N]."""
    parameters, context, seal = payload.parameters, payload.parameters.context(), sealapi()
    decryptor, encoder = seal.Decryptor(context, secret.seal_key()), seal.CKKSEncoder(context)
    ciphertext, plain = seal.Ciphertext(), seal.Plaintext()
    sums: list[NDArray[np.float64]] = []  # each made when its ciphertext is there
    with SealFile() as file:
        for index, encoded in enumerate(payload.ciphertexts):
            _load_ciphertext(ciphertext, file, parameters, encoded, index)
            decryptor.decrypt(ciphertext, plain)
            slots = np.fromiter(encoder.decode_complex(plain), np.complex128, parameters.ring_degree // 2)
            values = slots.view(np.float64)
            sums.append(np.rint(values))
            values -= sums[index]
            residual = float(np.abs(values, out=values).max())
            if not residual <= ROUNDING_LIMIT:
                raise UnattributedFault(
                    f"ciphertext {index}: a slot is {residual:.2f} from an integer, at most {ROUNDING_LIMIT} is "
                    "expected; it was made under another key, or its sum wrapped around"
                )
    return np.concatenate(sums)


def _encryption(key: PublicKey | SecretKey, context: SealObject) -> Callable[[SealObject], SealObject]:
    """Return the function from a plaintext to what can be saved as its ciphertext."""
    encryptor = sealapi().Encryptor(context, key.seal_key())
    if isinstance(key, SecretKey):
        return lambda plain: encryptor.encrypt_symmetric(plain)
    ciphertext = sealapi().Ciphertext()

    def encrypt_plain(plain: SealObject) -> SealObject:
        encryptor.encrypt(plain, ciphertext)
        return ciphertext

    return encrypt_plain


def _load_ciphertext(
    target: SealObject, file: SealFile, parameters: CkksParameters, encoded: bytes | memoryview, index: int
) -> None:
    """Fill `target`, and refuse what SEAL would accept though no contribution of this library looks like it."""
    context = parameters.context()
    file.load(target, context, encoded, f"ciphertext {index}")
    expected = (2, context.first_parms_id(), True, parameters.scale)
    if (target.size(), target.parms_id(), target.is_ntt_form(), target.scale) != expected or target.is_transparent():
        raise EncodingError(f"ciphertext {index}: size, level, form or scale is not that of a fresh encryption")
