"""Auditing in one run: `run` audits any mechanism, by `bounds` over `curves`; `sums` and `training` are some to audit.

Importing `training` imports TensorFlow; importing the others does not.
"""

from secureagg.dp.audit.run import AuditResult, Claim, Mechanism, Relation, audit, default_guesses

__all__ = ["AuditResult", "Claim", "Mechanism", "Relation", "audit", "default_guesses"]
