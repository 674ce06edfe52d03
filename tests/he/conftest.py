"""Keys made once, and ciphertexts no contribution would be."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secureagg.he.seal_files import SealFile, sealapi
from secureagg.he.tenseal import PublicKey, SecretKey, generate_keys
from secureagg.he.tenseal_wire import Payload
from secureagg.layout import Layout

Keys = tuple[PublicKey, SecretKey]
Forge = Callable[..., Payload]


@pytest.fixture(scope="session")
def keys() -> Keys:
    """Five clients, weights up to 8, precision 1e-4: one prime at N = 2048."""
    return generate_keys(clients=5, magnitude=2.0, precision=1e-4, max_weight=8.0)


@pytest.fixture(scope="session")
def other_keys() -> Keys:
    """The same request as `keys`, drawn anew."""
    return generate_keys(clients=5, magnitude=2.0, precision=1e-4, max_weight=8.0)


@pytest.fixture(scope="session")
def forge() -> Forge:
    """Return the payload of one ciphertext with these slot values (float64[≤ N], grid steps), whatever they are."""

    def forged(public: PublicKey, layout: Layout, slots: NDArray[Any], copies: int = 1, scale: float = 1.0) -> Payload:
        parameters, seal = public.parameters, sealapi()
        context = parameters.context()
        padded = np.zeros(parameters.ring_degree)
        padded[: len(slots)] = slots
        plain, ciphertext = seal.Plaintext(), seal.Ciphertext()
        seal.CKKSEncoder(context).encode(padded.view(np.complex128).tolist(), parameters.scale * scale, plain)
        seal.Encryptor(context, public.seal_key()).encrypt(plain, ciphertext)
        total = seal.Ciphertext()
        seal.Evaluator(context).add_many([ciphertext] * copies, total)
        with SealFile() as file:
            encoded = file.dump(total)
        return Payload(parameters, public.key_id, layout, (os.urandom(16),), [encoded])

    return forged
