"""What an answer that looks at nothing would lose: brief trainings that do no better have not learned."""

from __future__ import annotations

import numpy as np
import torch

from lmsearch.data import Source, build_loaders


def constant_loss(source: Source, *, batch_size: int, alike: bool = False) -> float | None:
    """Return the validation loss of the best constant answer; None where the kind of target does not tell it.

    Of classes that is the entropy of their frequencies, in nats, or of as many equal ones where all count `alike`; of targets
    per token their variance about the mean token.
    """
    if source.info.targets.classes:
        labels = source.val.labels
        if labels is None:
            return None
        counts = np.bincount(labels)
        return entropy(np.minimum(counts, 1) if alike else counts)
    if source.info.targets.per_token:
        batches = build_loaders(source, batch_size=batch_size, seed=0).val
        targets = torch.cat([batch.targets for batch in batches if isinstance(batch.targets, torch.Tensor)]).double()
        return float(targets.var(correction=0))
    return None


def entropy(counts: np.ndarray) -> float:
    """Entropy of frequencies in nats: -sum_c p_c ln p_c; counts (C,)."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
