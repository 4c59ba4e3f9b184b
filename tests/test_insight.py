"""What a network looks at: checked against what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from lmsearch.errors import ModelError
from lmsearch.insight.attention import call_of, mixer_named, mixers_of, rows_of, scan_attention
from lmsearch.insight.gradients import receptive_field, saliency
from lmsearch.insight.importance import ablation_path, direction_importance
from lmsearch.kernels import directional_scan
from lmsearch.models import create_model
from lmsearch.models.backbone import Backbone
from lmsearch.models.scan_groups import scan_groups
from lmsearch.scan.directions import index_table
from lmsearch.search.supernet.masking import Choice, Evaluate

SMALL: dict[str, Any] = {"embed_dim": 16, "depth": 2, "img_size": 8, "patch_size": 2, "in_chans": 1, "d_state": 4,
                         "use_rope": False, "stem": "patch"}  # fmt: skip
NAMES = ["h", "v_flip", "w3"]


def small(**options: Any) -> Backbone:
    torch.manual_seed(0)
    return cast(Backbone, create_model("local_vim_nano", directions=[NAMES, NAMES[:2]], **{**SMALL, **options})).eval()


@pytest.mark.parametrize("options", [{}, {"middle_cls_token": True, "global_pool": "token"}, {"window_padding": "zeros"}])
def test_the_attention_matrix_times_the_tokens_is_the_scan(options: dict[str, Any]) -> None:
    model, images = small(**options), torch.randn(2, 1, 8, 8)
    mixer = mixer_named(model, "0")
    call = call_of(model, mixer, images)
    tokens, _ = mixer.split(*mixer.entered(call.x, call.grid))
    for group in scan_groups(mixer.directions, call.grid, mixer.options.window_padding, call.cls_index):
        arguments = mixer.scan_arguments(tokens, group, (0, 1, 2))
        scanned = directional_scan(**{**arguments, "z": None, "D": None, "backend": "reference"})
        for k in range(len(group.branches)):
            order = arguments["order"][k].long()
            u = arguments["x"][:, k][:, order]
            for t, row in enumerate(rows_of(arguments, k)):
                torch.testing.assert_close((row * u[:, : t + 1]).sum(1), scanned[:, k, order[t]], atol=1e-5, rtol=1e-4)


def test_a_token_takes_only_of_those_that_the_scan_has_visited() -> None:
    model = small(middle_cls_token=True, global_pool="token")
    mixer = mixer_named(model, "layers.0")
    found = scan_attention(mixer, call_of(model, mixer, torch.randn(1, 1, 8, 8)))
    assert list(found) == NAMES
    for order, matrix in zip(index_table(tuple(NAMES), (4, 4)), found.values(), strict=True):
        in_time = matrix[np.ix_(order, order)]
        assert matrix.shape == (16, 16) and (np.triu(in_time, 1) == 0).all() and (in_time.diagonal() > 0).all()


def test_a_layer_that_is_not_there_is_told() -> None:
    model = small()
    assert mixer_named(model, "-1") is mixers_of(model)["layers.1"]
    with pytest.raises(ModelError, match=r"layer='layers.7' is no layer of this network; did you mean layers\.\d.* or 0 to 1"):
        mixer_named(model, "layers.7")


def test_the_field_of_a_scan_of_rows_holds_what_lies_before_the_token() -> None:
    torch.manual_seed(0)
    model = cast(
        Backbone, create_model("local_vim_nano", directions=[["h"]], **{**SMALL, "depth": 1, "attention": "none"})
    ).eval()
    field, token = receptive_field(model, torch.randn(3, 1, 8, 8), token=(1, 2))
    assert token == (1, 2) and field.max() == 1
    by_patch = field.reshape(4, 2, 4, 2).max((1, 3)).ravel() > 0
    assert by_patch.tolist() == [n <= 1 * 4 + 2 for n in range(16)]
    assert receptive_field(model, torch.randn(1, 1, 8, 8))[1] == (2, 2)
    with pytest.raises(ModelError, match=r"token=\[4,0\] is outside the grid of 4x4 tokens"):
        receptive_field(model, torch.randn(1, 1, 8, 8), token=(4, 0))


def test_the_saliency_of_an_image_adds_up_to_its_logit() -> None:
    model, image = small(num_classes=3), torch.randn(1, 8, 8)
    found, target = saliency(model, image)
    with torch.no_grad():
        logits, of_mean = model(torch.stack([image, torch.zeros_like(image)]))
    assert target == int(logits.argmax()) and found.shape == (8, 8)
    assert found.sum() == pytest.approx(float(logits[target] - of_mean[target]), abs=1e-3)
    assert saliency(model, image, target=1)[1] == 1


class Priced:
    """Scores of choices that only what they hold decides: a loss of 3 less the prices of their directions."""

    def each(self, module: nn.Module, choices: Sequence[Choice]) -> list[Any]:
        prices = {0: 0.5, 1: 0.25, 2: -1.0}
        totals = [sum(prices[i] for b in choice.values() for i in b.active) for choice in choices]
        return [SimpleNamespace(losses=torch.full((2,), 3.0 - total)) for total in totals]


def test_importance_is_what_a_direction_saves_and_the_path_changes_layer_by_layer() -> None:
    supernet = create_model("local_vim_nano", directions=[NAMES] * 2, **{**SMALL, "merge": "weighted"})
    evaluate, choice = cast(Evaluate, Priced()), {"layers.0": ["h", "w3"], "layers.1": ["v_flip"]}
    found = direction_importance(supernet, evaluate, choice)
    assert found["layers.0"] == pytest.approx({"h": 0.5, "v_flip": 0.25, "w3": -1.0})
    assert found["layers.1"] == pytest.approx({"h": 0.5, "w3": -1.0}), "the only one cannot be left out"
    start = {"layers.0": ["h", "v_flip"], "layers.1": ["h"]}
    assert ablation_path(supernet, evaluate, start, choice) == pytest.approx([1.75, 3.0, 3.25])
