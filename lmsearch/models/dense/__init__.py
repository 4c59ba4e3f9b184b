"""Networks for dense tasks: a backbone, its maps at several strides, and a head for pixels or objects."""

from lmsearch.models.dense.heads import HEADS, HeadKind, head_kind
from lmsearch.models.dense.net import DenseNet

__all__ = ["HEADS", "DenseNet", "HeadKind", "head_kind"]
