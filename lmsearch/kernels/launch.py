"""How Triton kernels are launched on a device."""

from __future__ import annotations

import torch

UNPIPELINED = (10, 12)  # compute capabilities (major)


def launch_options(device: torch.device) -> dict[str, int]:
    """Return what every kernel is launched with on `device`.

    On compute capability 10 and 12 loops are not pipelined: there, a pipelined recurrent kernel was silently wrong in Triton
    3.5.1 to 3.7.0 (state-spaces/mamba#997).
    """
    if device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device)[0] not in UNPIPELINED:
        return {}
    return {"num_stages": 1}
