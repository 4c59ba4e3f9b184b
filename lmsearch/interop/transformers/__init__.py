"""LocalVim and LocalVMamba as models of Transformers 5: configurations, backbones and image classifiers (extra `dense`).

Nothing happens at import. After `register()` Transformers' Auto classes know the model types "local_vim" and "local_vmamba":

    register()
    backbone = AutoBackbone.from_config(LocalVimConfig(directions=[["h", "v_flip"]] * 20, out_indices=[0, 1, 2, 3]))
"""

from __future__ import annotations

import importlib
import importlib.util

from lmsearch.errors import ModelError
from lmsearch.models.dense.heads import INSTALL

_NAMES = {
    "LocalVimConfig": "configuration",
    "LocalVMambaConfig": "configuration",
    "LocalVimBackbone": "modeling",
    "LocalVMambaBackbone": "modeling",
    "LocalVimForImageClassification": "modeling",
    "LocalVMambaForImageClassification": "modeling",
}
__all__ = ["register", *_NAMES]


def __getattr__(name: str) -> object:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _check_installed()
    return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)


def register() -> None:
    """Make both families known to AutoConfig, AutoBackbone and AutoModelForImageClassification; again does no harm.

    A saved backbone is read by its own class, LocalVimBackbone.from_pretrained: AutoBackbone looks for the name on the hub.
    Raises ModelError where Transformers is not installed.
    """
    _check_installed()
    importlib.import_module(f"{__name__}.modeling").register_all()


def _check_installed() -> None:
    """Raise ModelError where Transformers is not installed."""
    if importlib.util.find_spec("transformers") is None:
        raise ModelError(f"this needs Transformers, which is not installed; run: {INSTALL}")
