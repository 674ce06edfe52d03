"""Agreement with Microsoft SEAL: same roots, same order, so its keys are ours after an inverse transform."""

from __future__ import annotations

import numpy as np
import pytest
from tenseal import sealapi

from secureagg.ring import ntt, residues
from secureagg.ring.params import PARAMETER_NAMES, RingParameters, ring_parameters


def seal_context(ring: RingParameters) -> sealapi.SEALContext:
    """Return SEAL's CKKS context over the same ring; SEAL checks that the modulus is within its 128-bit table."""
    parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
    parameters.set_poly_modulus_degree(ring.degree)
    parameters.set_coeff_modulus([sealapi.Modulus(q) for q in ring.primes])
    context = sealapi.SEALContext(parameters, True, sealapi.SEC_LEVEL_TYPE.TC128)
    assert context.parameters_set(), context.parameters_error_message()
    return context


def seal_words(owner: sealapi.Plaintext | sealapi.Ciphertext, ring: RingParameters, primes: int) -> ntt.Words:
    """Return the first polynomial of what SEAL holds in NTT form, as uint64[1, primes, N].

    The bindings hand out views, so the caller keeps every owner alive, a secret key beside its plaintext too.
    """
    assert owner.is_ntt_form()
    array = owner.dyn_array()
    words = [array.at(i) for i in range(primes * ring.degree)]
    return np.array(words, dtype=np.uint64).reshape(1, primes, ring.degree)


@pytest.mark.parametrize("name", PARAMETER_NAMES)
def test_a_seal_secret_key_transforms_back_to_ternary_and_again(name: str) -> None:
    ring = ring_parameters(name)
    generator = sealapi.KeyGenerator(seal_context(ring))
    secret_key = generator.secret_key()
    plain = secret_key.data()
    key = seal_words(plain, ring, len(ring.primes))
    values = key.copy()
    ntt.inverse(values, ring.primes)
    lifted = residues.centred(values, ring.primes)
    assert set(np.unique(lifted)) == {-1, 0, 1}
    assert all(np.array_equal(lifted[0, 0], lifted[0, p]) for p in range(len(ring.primes)))
    ours = np.zeros_like(key)
    residues.add_signed(ours, lifted[:, 0], ring.primes)
    ntt.forward(ours, ring.primes)
    assert np.array_equal(ours, key)


@pytest.mark.parametrize("name", PARAMETER_NAMES)
def test_a_product_is_the_one_seal_computes(name: str) -> None:
    """Ciphertext times plaintext, both SEAL's; the last of several primes is SEAL's key-switching prime."""
    ring = ring_parameters(name)
    context = seal_context(ring)
    generator, encoder, evaluator = (
        kind(context) for kind in (sealapi.KeyGenerator, sealapi.CKKSEncoder, sealapi.Evaluator)
    )
    encryptor = sealapi.Encryptor(context, generator.secret_key())
    plain, cipher, product = sealapi.Plaintext(), sealapi.Ciphertext(), sealapi.Ciphertext()
    encoder.encode(3.0, 2.0**20, plain)
    encryptor.encrypt_symmetric(plain, cipher)
    evaluator.multiply_plain(cipher, plain, product)
    count = cipher.coeff_modulus_size()
    primes = ring.primes[:count]
    ours = seal_words(cipher, ring, count)
    ntt.multiply(ours, seal_words(plain, ring, count), primes)
    assert np.array_equal(ours, seal_words(product, ring, count))
