"""Lower bounds on ε from how often one guessed rightly which of m canaries were in.

Each canary is in with probability 1/2, independently. m canaries, r guesses, c of them right.

| bound | what it refutes | source |
|---|---|---|
| `one_run_bound` | any family; one run | Mahloujifar, Melis & Chaudhuri 2024 (arXiv 2410.22235), Algorithm 3 |
| `one_run_epsilon` | (ε, δ)-DP; one run | Steinke, Nasr & Jagielski 2023 (arXiv 2305.08846), appendix D |
| `independent_bound` | any family; each canary in a run of its own | as Nasr et al. 2023: Clopper–Pearson, the curve |

Why Algorithm 3 holds, for bits. Let p_i = P(exactly i right), T = {i, …, r}. Flip canary j: a right guess of it becomes
a wrong one, so P(j right, W ∈ T) ≤ f̄(P(j guessed wrongly, W ∈ T − 1)) by f-DP. Averaged over j, f̄ being concave:
R_i ≤ f̄(H_{i−1}) for R_i = Σ_{k≥i} (k/m)·p_k and H_i = Σ_{k≥i} ((r−k)/m)·p_k. If P(W ≥ c) were τ or more, then starting
from R_c = τ·c/m, H_c = τ·(r−c)/m the least that each step down adds would leave R_0 + H_0 ≤ r/m, which the total is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from secureagg.dp.audit.curves import Curves, Inverse

__all__ = ["independent_bound", "one_run_bound", "one_run_epsilon", "one_run_p_value", "one_run_rejects"]

_BISECTIONS = 20
_SUM_SLACK = 1e-9  # of r sums of positive floats, r ≤ 10^6
_LOG_SLACK = 1e-7  # of logarithms of factorials up to 10^7!, within 1e-15 relatively
_MAX_EPSILON = 64.0


def one_run_rejects(inverse: Inverse, canaries: int, guesses: int, correct: int, error: float) -> bool:
    """Return whether f-DP makes `correct` or more right guesses less likely than `error` (Algorithm 3, k = 2).

    Requires: 0 ≤ correct ≤ guesses ≤ canaries, inclusion uniform and the number of guesses at most `guesses`.
    """
    right, wrong = error * correct / canaries, error * (guesses - correct) / canaries
    total = guesses / canaries * (1 + _SUM_SLACK)
    for i in range(correct - 1, -1, -1):
        if right + wrong > total:
            return True
        grown = max(wrong, inverse(right))
        right, wrong = right + i / (guesses - i) * (grown - wrong), grown
    return right + wrong > total


def one_run_bound(curves: Curves, canaries: int, guesses: int, correct: int, error: float) -> float:
    """Return the largest strength of the family, rounded down, that `one_run_rejects`; 0 if none."""
    return _largest(
        curves.max_strength, lambda s: one_run_rejects(curves.inverse(s), canaries, guesses, correct, error)
    )


def one_run_epsilon(canaries: int, guesses: int, correct: int, delta: float, error: float) -> float:
    """Return the largest ε, rounded down, at which (ε, δ)-DP is refuted; 0 if none.

    Appendix D: P(W ≥ v) ≤ F(v) + 2mδ·max_i (F(v − i) − F(v))/i, F(v) = P(Binomial(r, e^ε/(e^ε + 1)) ≥ v).
    """
    return _largest(_MAX_EPSILON, lambda e: one_run_p_value(canaries, guesses, correct, e, delta) < error)


def one_run_p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Return appendix D's bound on P(W ≥ correct), rounded up."""
    mass = _binomial(guesses, 1 / (1 + math.exp(-epsilon)))
    tail = float(mass[correct:].sum())
    below = np.cumsum(mass[:correct][::-1])  # F(v − i) − F(v), i = 1 … v
    steepest = float((below / np.arange(1, correct + 1)).max()) if correct else 0.0
    return min(1.0, (tail + 2 * canaries * delta * steepest) * (1 + _LOG_SLACK))


def independent_bound(curves: Curves, ins: int, right_ins: int, outs: int, right_outs: int, error: float) -> float:
    """Return the largest strength, rounded down, that independent guesses refute: P(right | in) > f̄(P(wrong | out)).

    Both probabilities by Clopper and Pearson, at error/2 each. Requires: guesses independent given what was in.
    """
    caught = _lower_proportion(ins, right_ins, error / 2)
    alarms = 1 - _lower_proportion(outs, right_outs, error / 2)
    if not 0 < caught < 1:
        return 0.0
    return _largest(curves.max_strength, lambda s: curves.inverse(s)(caught) > alarms)


def _largest(limit: float, refuted: Callable[[float], bool]) -> float:
    """Return the largest value in [0, limit] that is refuted, rounded down; refutation falls with the value."""
    low, high = 0.0, limit
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _lower_proportion(trials: int, successes: int, error: float) -> float:
    """Return the largest p, rounded down, with P(Binomial(trials, p) ≥ successes) ≤ error."""
    if successes == 0:
        return 0.0
    return _largest(1.0, lambda p: float(_binomial(trials, p)[successes:].sum()) * (1 + _LOG_SLACK) <= error)


def _binomial(trials: int, p: float) -> NDArray[np.float64]:
    """Return the probabilities of 0 … trials successes, 0 < p < 1."""
    k = np.arange(trials + 1)
    logs: NDArray[np.float64] = _log_choose(trials) + k * math.log(p) + (trials - k) * math.log1p(-p)
    return np.exp(logs)


def _log_choose(trials: int) -> NDArray[np.float64]:
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    chosen: NDArray[np.float64] = logs[-1] - logs - logs[::-1]
    return chosen
