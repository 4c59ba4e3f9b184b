"""lmsearch: neural architecture search over scan directions for vision state-space models.

model = lmsearch.create_model("local_vim_tiny", directions=lmsearch.load_genotype("localmamba/local_vim_tiny").directions)
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

# Public names and where they live; imported on first use, so that `lmsearch --help` need not wait for PyTorch.
_PUBLIC = {
    "create_model": "lmsearch.models",
    "model_names": "lmsearch.models",
    "load_genotype": "lmsearch.genotype",
    "save_genotype": "lmsearch.genotype",
    "load_search_space": "lmsearch.search_space",
    "run_search": "lmsearch.api.search",
    "run_retrain": "lmsearch.api.retrain",
    "run_compare": "lmsearch.api.compare",
    "tune_process": "lmsearch.process",
    "DirectionalMixer": "lmsearch.models.mixer",
    "LocalVimMixer": "lmsearch.models.local_vim",
    "LocalVMambaMixer": "lmsearch.models.local_vmamba",
    "MixerOptions": "lmsearch.models.mixer",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'lmsearch' has no attribute {name!r}")
