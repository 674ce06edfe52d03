"""The ring R_q: parameters, transforms, residues and their bytes, streams, discrete Gaussians, and the thread pool.

Importing it loads no compiler: numba comes with the first kernel used.
"""

from secureagg.ring.bounds import noise_squared_norm_bound, smoothing_parameter, tail_bound
from secureagg.ring.gaussian import GaussianTable, fill_gaussian, gaussian_table
from secureagg.ring.masks import fill_masks, fill_public
from secureagg.ring.params import PARAMETER_NAMES, RingParameters, ring_parameters
from secureagg.ring.xof import PublicExpansion, SecretStream

__all__ = [
    "PARAMETER_NAMES",
    "GaussianTable",
    "PublicExpansion",
    "RingParameters",
    "SecretStream",
    "fill_gaussian",
    "fill_masks",
    "fill_public",
    "gaussian_table",
    "noise_squared_norm_bound",
    "ring_parameters",
    "smoothing_parameter",
    "tail_bound",
]
