"""Selective scan and causal convolution along K scan orders: one interface, a backend for every machine.

`directional_scan` and `directional_conv` are the operators, `weighted_merge`, `gated_sum` and `normed_mean` what follows them;
`selective_scan_fn` (mamba-ssm) and `vmamba_selective_scan_fn` have the signatures of those packages. reference.py holds the
definitions; native (CPU), triton (CUDA) and mamba_ssm (optional peer) are tested against them.
"""

from lmsearch.kernels.drop_in import selective_scan_fn, vmamba_selective_scan_fn
from lmsearch.kernels.merge import gated_sum, normed_mean, weighted_merge
from lmsearch.kernels.ops import BACKENDS, choose_backend, directional_conv, directional_scan

__all__ = [
    "BACKENDS",
    "choose_backend",
    "directional_conv",
    "directional_scan",
    "weighted_merge",
    "gated_sum",
    "normed_mean",
    "selective_scan_fn",
    "vmamba_selective_scan_fn",
]
