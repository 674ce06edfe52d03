"""Normal deviates by the ziggurat, rounded to integers."""

from __future__ import annotations

import math

import numpy as np
from numba.core.types import float32 as f4
from numba.core.types import float64 as f8
from numba.core.types import int64 as i8
from numba.core.types import uint64 as u8
from numpy.typing import NDArray

from secureagg.ring.jit_kernels import kernel, readable, writable

__all__ = ["LAYER_EDGES", "LAYER_HEIGHTS", "WORDS_IN_HAND", "round_normals"]

WORDS_IN_HAND = 64  # an attempt begins only with so many words left; one that needs more has probability below 2^-90
_LAYERS = 256
_TAIL = 3.6541528853610088  # where 256 layers of equal area close at zero (Marsaglia and Tsang 2000, table 1)


def _edges() -> NDArray[np.float64]:
    """Return X[0] > … > X[256] = 0: layer i is [0, X[i]) wide and lies wholly under the density up to X[i + 1]."""
    density = math.exp(-0.5 * _TAIL * _TAIL)
    area = _TAIL * density + math.sqrt(math.pi / 2) * math.erfc(_TAIL / math.sqrt(2))
    edges = [area / density, _TAIL]
    for _ in range(_LAYERS - 2):
        edges.append(math.sqrt(-2 * math.log(area / edges[-1] + math.exp(-0.5 * edges[-1] ** 2))))
    return np.array([*edges, 0.0])


LAYER_EDGES = _edges()
LAYER_HEIGHTS = np.exp(-0.5 * LAYER_EDGES**2)


@kernel(i8, readable(u8, 1), readable(f8, 1), readable(f8, 1), f8, writable(f4, 1))
def round_normals(
    words: NDArray[np.uint64],
    edges: NDArray[np.float64],
    heights: NDArray[np.float64],
    scale: float,
    out: NDArray[np.float32],
) -> int:
    """out[i] = round(scale · N(0, 1)); return how many were made before the words ran out.

    The low 8 bits of a word choose the layer, bit 8 the sign, the top 53 the place (Doornik 2005: bits not shared).
    """
    made = 0
    used = 0
    last = words.size - 64
    while made < out.size and used <= last:
        word = words[used]
        used += 1
        layer = np.int64(word & np.uint64(255))
        x = np.float64(word >> np.uint64(11)) * 2.0**-53 * edges[layer]
        if x >= edges[layer + 1]:
            if layer == 0:
                accepted = False
                while not accepted and used + 2 <= words.size:  # Marsaglia 1964
                    step = -math.log((np.float64(words[used]) + 0.5) * 2.0**-64) / edges[1]
                    height = -math.log((np.float64(words[used + 1]) + 0.5) * 2.0**-64)
                    used += 2
                    accepted = 2.0 * height > step * step
                    x = edges[1] + step
                if not accepted:
                    break
            else:
                place = np.float64(words[used] >> np.uint64(11)) * 2.0**-53
                used += 1
                if heights[layer] + place * (heights[layer + 1] - heights[layer]) >= math.exp(-0.5 * x * x):
                    continue
        sign = 1.0 - np.float64((word >> np.uint64(7)) & np.uint64(2))
        out[made] = np.rint(sign * x * scale)
        made += 1
    return made
