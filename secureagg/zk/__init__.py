"""Zero-knowledge proofs that an update is valid, and hash commitments to weight tensors, usable on their own.

A round's proofs are made by `contribute` and verified by `Aggregator.admit`; `validity` is the statement, `iop` the
proof system under it. docs/proofs/ holds the arguments.
"""

from secureagg.zk.commitment import Commitment, LayerOpening, Opening, commit, verify, verify_layer
from secureagg.zk.statement import soundness_bits, soundness_terms

__all__ = [
    "Commitment",
    "LayerOpening",
    "Opening",
    "commit",
    "soundness_bits",
    "soundness_terms",
    "verify",
    "verify_layer",
]
