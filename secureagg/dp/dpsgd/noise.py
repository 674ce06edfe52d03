"""Gaussian noise on a grid, from the operating system's randomness.

A floating-point normal added to a floating-point value shows in its low bits which value it was (Mironov, CCS 2012).
So the sum is first rounded to a grid, and what is added is an integer number of grid steps that does not depend on
it. For integers s, s + round(N) = round(s + N): the result is a function of the real Gaussian mechanism's on the
rounded sum, so its guarantee carries over. What follows is post-processing: the addition in float32, which is a
function of the exact integer sum as IEEE rounds correctly, the division, the dtype of the weights.

Two neighbouring sums at most l2_clip apart are, rounded, at most l2_clip + grid_step·√d apart; the noise is scaled
to that, so that rounding costs no privacy (d = 10^6, noise_multiplier 1: at most 0.2 % more noise). What stays outside
the claim: the sum itself is taken in the model's dtype, whose rounding the bound on one example's effect does not
count (Casacuberta et al., CCS 2022); and round(N) has each integer's probability to within a factor 1 ± 2^-24 up to
6 standard deviations, not exactly, as N is a float64 with a 53-bit fraction.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from secureagg.dp.dpsgd.noise_kernels import LAYER_EDGES, LAYER_HEIGHTS, WORDS_IN_HAND, round_normals
from secureagg.errors import ParameterError
from secureagg.ring import workers
from secureagg.ring.xof import SecretSpan, SecretStream

__all__ = ["GaussianNoise", "require_clip"]

_GRID_BITS = 19  # std / grid_step ≥ 2^19, and 16 standard deviations are still exact in float32's 24 bits
_PIECE = 1 << 15  # coordinates drawn in one go, so that their words stay in the cache
_PIECES_A_THREAD = 8  # below this a thread of its own costs more than it gains
_ATTEMPTS = _PIECE + _PIECE // 32 + WORDS_IN_HAND  # even; 1.2 % of the attempts fail, and as many need another word
_STEPS_AHEAD, _VALUES_AHEAD = 8, 1 << 20  # waking a thread costs a small model as much as drawing its noise
_CLIPS = (1e-12, 1e12)
_ALIGNMENT = 64  # what TensorFlow asks of memory it takes over without copying


class GaussianNoise:
    """Noise for sums of vectors of `dimension` coordinates, each of L2 norm at most `l2_clip`.

    `std` is noise_multiplier · (l2_clip + grid_step·√dimension); `grid_step` is a power of two (1 without noise).
    Vectors are drawn ahead by a thread of its own, a few at a time; each is given out once.
    Raises: ParameterError unless l2_clip is within 1e-12 … 1e12, noise_multiplier ≥ 0 finite and dimension ≥ 1.
    """

    def __init__(
        self, l2_clip: float, noise_multiplier: float, dimension: int, stream: SecretStream | None = None
    ) -> None:
        require_clip(l2_clip)
        if not (math.isfinite(noise_multiplier) and noise_multiplier >= 0):
            raise ParameterError(f"noise_multiplier={noise_multiplier}: must be finite and ≥ 0")
        if dimension < 1:
            raise ParameterError(f"dimension={dimension}: must be ≥ 1")
        self.dimension = dimension
        wanted = noise_multiplier * l2_clip
        self.grid_step = 2.0 ** (math.floor(math.log2(wanted)) - _GRID_BITS) if wanted else 1.0
        self.std = noise_multiplier * (l2_clip + self.grid_step * math.sqrt(dimension))
        self._stream = stream or SecretStream()
        self._process = os.getpid()
        self._lock = Lock()
        self._ready: list[NDArray[np.float32]] = []
        self._ahead: Future[list[NDArray[np.float32]]] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def take(self) -> NDArray[np.float32]:
        """Return fresh noise in grid steps: float32[dimension], integers. Requires: noise_multiplier > 0."""
        if os.getpid() != self._process:
            raise ParameterError("noise made before a fork would repeat; make the model private in the new process")
        with self._lock:
            if not self._ready:
                if self._thread is None:
                    self._thread = ThreadPoolExecutor(1, "secureagg-noise")
                self._ready = (self._ahead or self._thread.submit(self._draw_several)).result()
                self._ahead = self._thread.submit(self._draw_several)
            return self._ready.pop(0)

    def draw(self) -> NDArray[np.float32]:
        """Return the same as `take`, drawn now."""
        noise = _aligned(self.dimension)
        pieces = -(-self.dimension // _PIECE)
        words = self._stream.reserve(pieces * _ATTEMPTS)

        def draw_pieces(first: int, last: int) -> None:
            for index in range(first, last):
                self._draw_piece(words, index, noise[index * _PIECE : (index + 1) * _PIECE])

        workers.run(draw_pieces, pieces, _PIECES_A_THREAD)
        return noise

    def _draw_several(self) -> list[NDArray[np.float32]]:
        return [self.draw() for _ in range(max(1, min(_STEPS_AHEAD, _VALUES_AHEAD // self.dimension)))]

    def _draw_piece(self, span: SecretSpan, index: int, out: NDArray[np.float32]) -> None:
        words = np.empty(len(out) + len(out) // 32 + WORDS_IN_HAND, dtype=np.uint64)
        span.fill(index * _ATTEMPTS, words)
        scale = self.std / self.grid_step
        made = round_normals(words, LAYER_EDGES, LAYER_HEIGHTS, scale, out)
        while made < len(out):
            self._stream.fill(words)
            made += round_normals(words, LAYER_EDGES, LAYER_HEIGHTS, scale, out[made:])


def require_clip(l2_clip: float) -> None:
    """Raise ParameterError unless float32 squares neither vanish nor overflow beside the clip's."""
    if not _CLIPS[0] <= l2_clip <= _CLIPS[1]:
        raise ParameterError(f"l2_clip={l2_clip}: must be within {_CLIPS[0]} … {_CLIPS[1]}")


def _aligned(size: int) -> NDArray[np.float32]:
    room = np.empty(4 * size + _ALIGNMENT, dtype=np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + 4 * size].view(np.float32)
