"""Names for text models that vision repositories import and do not use: importing them works, using them raises KernelError."""

from __future__ import annotations

from typing import NoReturn

from lmsearch.errors import KernelError


class GenerationMixin:
    """The base of mamba-ssm's text models; `generate` raises KernelError."""

    def generate(self, *args: object, **kwargs: object) -> NoReturn:
        """Raise KernelError."""
        raise KernelError("lmsearch.compat: GenerationMixin.generate is not served: text is not generated")


def load_config_hf(model_name: str) -> NoReturn:
    """Raise KernelError: text models are not loaded."""
    raise KernelError(f"lmsearch.compat: load_config_hf({model_name!r}) is not served: text models are not loaded")


def load_state_dict_hf(model_name: str, device=None, dtype=None) -> NoReturn:
    """Raise KernelError: text models are not loaded."""
    raise KernelError(f"lmsearch.compat: load_state_dict_hf({model_name!r}) is not served: text models are not loaded")
