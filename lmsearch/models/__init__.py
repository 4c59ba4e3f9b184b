"""LocalVim and LocalVMamba, and the mixer that both are made of."""

from lmsearch.models.backbone import Backbone, Network
from lmsearch.models.factory import create_model, model_depth, model_names
from lmsearch.models.mixer import DirectionalMixer

__all__ = ["Backbone", "DirectionalMixer", "Network", "create_model", "model_depth", "model_names"]
