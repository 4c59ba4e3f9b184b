"""Networks as one graph: torch.compile without breaks, with two graphs for all batches, and torch.export in strict mode."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lmsearch.models import create_model, tracing
from lmsearch.models.tracing import plain_grid

PLACED = {"use_rope": False, "rope_residual": False, "middle_cls_token": True}
PADDED = {"window_padding": "zeros", "directions": ["h", "w3_flip", "v", "w2"], "img_size": 7}
NETS: dict[str, dict[str, Any]] = {  # what create_model takes
    "rope": {"name": "local_vim_nano", "depth": 2},
    "class token, padded": {"name": "local_vim_nano", "depth": 1} | PLACED | PADDED,
    "stages, padded": {"name": "local_vmamba_nano", "depths": (1, 1)} | PADDED | {"directions": ["h", "w3_flip"]},
    "no attention": {"name": "local_vmamba_nano", "depths": (1,), "attention": "none", "directions": ["spiral", "hilbert"]},
    "channel attention": {"name": "local_vim_nano", "depth": 1, "attention": "channel", "norm": "layer", "stem": "patch"},
    "plain head": {"name": "local_vmamba_nano", "depths": (1, 1), "head": "plain"},
    "upernet": {"name": "local_vim_nano", "depth": 1, "head": "upernet"},
}  # fmt: skip
ROUNDED = ("upernet",)  # torch.compile takes the interpolation of this head apart, which rounds otherwise; all else is equal
MOST_GRAPHS = 2  # one for the first batch, one for any batch


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Let every test compile anew."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def net_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"embed_dim": 16} if "vim" in NETS[name]["name"] else {"dims": (8, 16)[: len(NETS[name]["depths"])]}
    return create_model(**sizes | NETS[name]).eval()


def images(net: nn.Module, batch: int, *, side: int = 0) -> Tensor:
    height, width = net.grid  # patches of one pixel
    return torch.rand(batch, 1, side or height, side or width, generator=torch.Generator().manual_seed(batch))


def check(name: str, got: Tensor, want: Tensor) -> None:
    """Compare bits, or where another rounding is expected, float32 numbers by PyTorch's own tolerance."""
    if name in ROUNDED:
        torch.testing.assert_close(got, want)
    else:
        assert torch.equal(got, want)


class Graphs:
    """A compiler that takes graphs apart into plain operators, runs these as they are, and counts the graphs."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.number += 1
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_a_network_is_one_graph_and_two_of_them_serve_every_batch(name: str) -> None:
    net, graphs = net_of(name), Graphs()
    compiled = torch.compile(net, fullgraph=True, backend=graphs)
    for batch in (2, 3, 4, 7):
        check(name, compiled(images(net, batch)), net(images(net, batch)))
    assert graphs.number <= MOST_GRAPHS


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_a_compiled_network_trains_as_it_does_uncompiled(name: str) -> None:
    net = net_of(name).train()
    for module in net.modules():
        module.drop_prob = 0.0
    weights = [p for p in net.parameters() if p.requires_grad]
    got, want = (call(images(net, 2)) for call in (torch.compile(net, fullgraph=True, backend="aot_eager"), net))
    check(name, got, want)
    for one, other in zip(*(torch.autograd.grad(y.square().sum(), weights, allow_unused=True) for y in (got, want)), strict=True):
        assert (one is None and other is None) or torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_a_network_is_exported_in_strict_mode_for_any_batch(name: str) -> None:
    net = net_of(name)
    program = torch.export.export(net, (images(net, 2),), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=True)
    for batch in (1, 7):
        torch.testing.assert_close(program.module()(images(net, batch)), net(images(net, batch)))


@pytest.mark.slow
@torch.no_grad()
def test_another_image_size_is_a_graph_of_its_own() -> None:
    net, graphs = net_of("stages, padded"), Graphs()
    compiled = torch.compile(net, fullgraph=True, backend=graphs)
    for side in (7, 8, 9, 8):
        assert torch.equal(compiled(images(net, 2, side=side)), net(images(net, 2, side=side)))
    assert graphs.number <= 3


@torch.no_grad()
def test_tables_made_while_a_graph_is_traced_serve_later_calls() -> None:
    net = create_model("local_vim_nano", embed_dim=12, depth=1, directions=["v", "atrous3_flip"], img_size=11, d_state=3).eval()
    torch.export.export(net, (images(net, 1),), strict=False)
    with torch.inference_mode():
        net(images(net, 2))
    assert type(net(images(net, 2))) is Tensor


def test_a_plain_grid_is_the_same_grid() -> None:
    assert plain_grid((3, 5)) == (3, 5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its compiler
def test_the_limit_of_graphs_is_of_our_functions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, before = [], torch._dynamo.config.recompile_limit
    monkeypatch.setattr(torch, "compile", lambda function, *, dynamic, recompile_limit=None: limits.append(recompile_limit))
    tracing.compiled(lambda: None)
    tracing.compiled.cache_clear()
    assert limits == [tracing.GRAPHS] and torch._dynamo.config.recompile_limit == before < tracing.GRAPHS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its compiler
def test_a_layer_that_needs_more_programs_than_are_made_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "GRAPHS", 1)
    tracing.compiled.cache_clear()
    net = create_model("local_vim_nano", depth=1, embed_dim=8, directions=["h", "v", "w2"], d_state=2, img_size=4).train()
    (mixer,) = net.mixers()
    x, plain = torch.randn(2, 16, 8), copy.deepcopy(mixer)
    mixer.compiled = True
    with torch._dynamo.config.patch(recompile_limit=1):
        for active in ((0,), (1,), (0, 1), (1, 2)):
            torch.testing.assert_close(mixer(x, (4, 4), active=active), plain(x, (4, 4), active=active), rtol=1e-4, atol=1e-5)
    tracing.compiled.cache_clear()
