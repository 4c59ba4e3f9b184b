"""LocalVim and LocalVMamba once more, as naively as possible: loops over directions and tokens, pads inside the sequences.

An independent second opinion for the parity tests: it reads state dicts with the published key names, shares no code
with the package, and works in any floating dtype, forward and backward. `official_*_shapes` list the published keys.
Shapes: B batch, L patch tokens of an (H, W) grid, T tokens of one scanned sequence, e inner channels, N states.
"""

from __future__ import annotations

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor

CANDIDATES = ["h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip"]
ROPE_SIDE = 14  # positions are rescaled to the grid of a 224-pixel image in patches of 16
D_STATE = 16
EPS = 1e-5


# ---------------------------------------------------------------- scan orders, as lists of raster indices, None for a pad
def visits(name: str, height: int, width: int, window_padding: str) -> list[int | None]:
    """Return the raster indices in the order of the visit; None stands for a pad."""
    base = name.removesuffix("_flip")
    order: list[int | None] = []
    if base == "h":
        order = [r * width + c for r in range(height) for c in range(width)]
    elif base == "v":
        order = [r * width + c for c in range(width) for r in range(height)]
    else:
        side = int(re.fullmatch(r"w(\d+)", base).group(1))
        for top in range(0, height, side):
            for left in range(0, width, side):
                for r in range(top, top + side):
                    for c in range(left, left + side):
                        order.append(r * width + c if r < height and c < width else None)
        if window_padding == "none":
            order = [t for t in order if t is not None]
    return order[::-1] if name.endswith("_flip") else order


def into_sequence(x: Tensor, order: list[int | None]) -> Tensor:
    """(B, L, e) -> (B, T, e), with zeros for the pads."""
    tokens = x.unbind(1)  # once: each slice of its own would cost a whole gradient
    zero = torch.zeros_like(tokens[0])
    return torch.stack([zero if t is None else tokens[t] for t in order], dim=1)


def out_of_sequence(y: Tensor, order: list[int | None]) -> Tensor:
    """(B, T, e) -> (B, L, e): every token back to its place, the pads dropped."""
    place = {token: time for time, token in enumerate(order) if token is not None}
    visited = y.unbind(1)
    return torch.stack([visited[place[token]] for token in range(len(place))], dim=1)


# ---------------------------------------------------------------- layers
def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPS) * weight


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    y = centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + EPS)
    return y if weight is None else y * weight + bias


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def recurrence(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The selective scan, token after token: u, dt (B, T, e), A (e, N), B and C (B, T, N), D (e)."""
    h = torch.zeros(u.shape[0], u.shape[2], A.shape[1], dtype=u.dtype)
    out = []
    for u_t, dt_t, B_t, C_t in zip(*(x.unbind(1) for x in (u, dt, B, C)), strict=True):
        h = torch.exp(dt_t[..., None] * A) * h + dt_t[..., None] * B_t[:, None, :] * u_t[..., None]
        out.append((h * C_t[:, None, :]).sum(-1) + D * u_t)
    return torch.stack(out, dim=1)


def gate_branch(sd: dict[str, Tensor], prefix: str, o: Tensor, attention: str) -> Tensor:
    """Spatial and channel attention of one branch o (B, L, e)."""
    if attention == "none":
        return o
    t = layer_norm(o, sd[prefix + "norm.weight"], sd[prefix + "norm.bias"])

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ sd[f"{prefix}{name}.weight"].T + sd[f"{prefix}{name}.bias"]

    g = gelu(linear("global_reduce", t.mean(1, keepdim=True)))  # (B, 1, q)
    out = o * torch.sigmoid(linear("channel_select", g))
    if attention == "spatial_channel":
        local = gelu(linear("local_reduce", t))  # (B, L, q)
        out = out * torch.sigmoid(linear("spatial_select", torch.cat([local, g.expand_as(local)], dim=-1)))
    return out


def merge(branches: list[Tensor], weights: Tensor | None) -> Tensor:
    """Sum of a derived net, or the softmax-weighted sum of normalised branches of a supernet."""
    if weights is None:
        return sum(branches)
    share = torch.softmax(weights.flatten(), dim=0)
    return sum(p * layer_norm(o) for p, o in zip(share, branches, strict=True))


# ---------------------------------------------------------------- LocalVim
def rope_tables(embed_dim: int, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin (H * W, embed_dim): row angles, then column angles, every frequency twice in a row."""
    half = embed_dim // 2
    rows = []
    for r in range(height):
        for c in range(width):
            angles = []
            for position, side in ((r, height), (c, width)):
                for j in range(0, half, 2):
                    angle = position / side * ROPE_SIDE / 10000 ** (j / half)
                    angles += [angle, angle]
            rows.append(angles)
    table = torch.tensor(rows, dtype=torch.float64)
    return table.cos().to(dtype), table.sin().to(dtype)


def released_rope_buffers(embed_dim: int, side: int) -> tuple[Tensor, Tensor]:
    """The same tables as a published checkpoint stores them: every step in float32."""
    half = embed_dim // 2
    freqs = 1.0 / (10000.0 ** (torch.arange(0, half, 2).to(torch.float32) / half))
    angle = (torch.arange(side) / side * ROPE_SIDE).view(side, 1) * freqs.view(1, -1)
    twice = torch.stack([angle, angle], dim=-1).view(side, half)
    table = torch.stack([torch.cat([twice[r], twice[c]]) for r in range(side) for c in range(side)])
    return torch.cos(table), torch.sin(table)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    out = torch.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * cos[:, 0::2] - x[..., 1::2] * sin[:, 0::2]
    out[..., 1::2] = x[..., 1::2] * cos[:, 1::2] + x[..., 0::2] * sin[:, 1::2]
    return out


def vim_branch(
    sd: dict[str, Tensor],
    prefix: str,
    i: int,
    x: Tensor,
    z: Tensor,
    order: list[int | None],
    cls: tuple[Tensor, Tensor] | None,
    middle: int,
) -> tuple[Tensor, Tensor | None]:
    """One direction of LocalVim: x, z (B, L, e) patch tokens -> the same, and the class token's output or None."""
    x, z = into_sequence(x, order), into_sequence(z, order)
    if cls is not None:
        x = torch.cat([x[:, :middle], cls[0], x[:, middle:]], dim=1)
        z = torch.cat([z[:, :middle], cls[1], z[:, middle:]], dim=1)
    weight, bias = sd[f"{prefix}conv1d_{i}.weight"][:, 0], sd[f"{prefix}conv1d_{i}.bias"]
    taps = weight.shape[1]
    convolved, tokens, rows = [], x.unbind(1), weight.unbind(1)
    for t in range(len(tokens)):
        value = bias.expand(x.shape[0], -1)
        for j in range(taps):
            if t - (taps - 1) + j >= 0:
                value = value + rows[j] * tokens[t - (taps - 1) + j]
        convolved.append(silu(value))
    u = torch.stack(convolved, dim=1)
    rank = sd[f"{prefix}dt_proj_{i}.weight"].shape[1]
    projected = u @ sd[f"{prefix}x_proj_{i}.weight"].T
    dt, B, C = projected.split([rank, D_STATE, D_STATE], dim=-1)
    dt = F.softplus(dt @ sd[f"{prefix}dt_proj_{i}.weight"].T + sd[f"{prefix}dt_proj_{i}.bias"])
    y = recurrence(u, dt, -torch.exp(sd[f"{prefix}A_log_{i}"]), B, C, sd[f"{prefix}D_{i}"]) * silu(z)
    cls_out = None
    if cls is not None:
        cls_out = y[:, middle : middle + 1]
        y = torch.cat([y[:, :middle], y[:, middle + 1 :]], dim=1)
    return out_of_sequence(y, order), cls_out


def vim_mixer(
    sd: dict[str, Tensor],
    prefix: str,
    hidden: Tensor,
    grid: tuple[int, int],
    *,
    directions: list[str],
    search: bool,
    cls: bool,
    window_padding: str,
    attention: str,
) -> Tensor:
    """hidden (B, L (+ 1), d) -> the same."""
    middle = grid[0] * grid[1] // 2
    xz = hidden @ sd[prefix + "in_proj.weight"].T
    x, z = xz.chunk(2, dim=-1)
    token = None
    if cls:
        token = (x[:, middle : middle + 1], z[:, middle : middle + 1])
        x = torch.cat([x[:, :middle], x[:, middle + 1 :]], dim=1)
        z = torch.cat([z[:, :middle], z[:, middle + 1 :]], dim=1)
    branches = []
    for i, name in enumerate(directions):
        o, cls_out = vim_branch(sd, prefix, i, x, z, visits(name, *grid, window_padding), token, middle)
        if cls:
            o = torch.cat([o[:, :middle], cls_out, o[:, middle:]], dim=1)
        branches.append(gate_branch(sd, prefix + "attn.", o, attention))
    merged = merge(branches, sd[prefix + "multi_scan.weights"] if search else None)
    return merged @ sd[prefix + "out_proj.weight"].T


def naive_local_vim(
    state_dict: dict[str, Tensor],
    images: Tensor,
    *,
    directions: list[list[str]],
    depth: int,
    patch_size: int,
    search: bool = False,
    use_rope: bool = True,
    rope_residual: bool = True,
    middle_cls_token: bool = False,
    norm: str = "rms",
    window_padding: str = "zeros",
    attention: str = "channel",
) -> Tensor:
    """Logits (B, num_classes) of LocalVim for images (B, C, h, w), in evaluation mode."""
    sd = state_dict

    def normalise(name: str, x: Tensor) -> Tensor:
        return rms_norm(x, sd[name + ".weight"]) if norm == "rms" else layer_norm(x, sd[name + ".weight"], sd[name + ".bias"])

    height, width = (-(-side // patch_size) for side in images.shape[-2:])
    padded = images.new_zeros(*images.shape[:2], height * patch_size, width * patch_size)
    padded[..., : images.shape[-2], : images.shape[-1]] = images
    x = F.conv2d(padded, sd["patch_embed.proj.weight"], sd["patch_embed.proj.bias"], stride=patch_size)
    x = x.flatten(2).transpose(1, 2)  # (B, L, d)
    middle = height * width // 2
    if middle_cls_token:
        x = torch.cat([x[:, :middle], sd["cls_token"].expand(len(x), -1, -1), x[:, middle:]], dim=1)
    hidden, residual = x + sd["pos_embed"], None
    cos, sin = rope_tables(x.shape[-1], height, width, x.dtype) if use_rope else (None, None)
    for b in range(depth):
        if use_rope:
            hidden = rotate(hidden, cos, sin)
            if residual is not None and rope_residual:
                residual = rotate(residual, cos, sin)
        residual = hidden if residual is None else hidden + residual
        hidden = vim_mixer(
            sd,
            f"layers.{b}.mixer.",
            normalise(f"layers.{b}.norm", residual),
            (height, width),
            directions=directions[b],
            search=search,
            cls=middle_cls_token,
            window_padding=window_padding,
            attention=attention,
        )
    out = normalise("norm_f", hidden + residual)
    pooled = out[:, middle] if middle_cls_token else out.mean(1)
    return pooled @ sd["head.weight"].T + sd["head.bias"]


# ---------------------------------------------------------------- LocalVMamba
def vmamba_op(
    sd: dict[str, Tensor], prefix: str, x: Tensor, *, directions: list[str], search: bool, window_padding: str, attention: str
) -> Tensor:
    """x (B, H, W, c) -> the same."""
    height, width = x.shape[1:3]
    xz = x @ sd[prefix + "in_proj.weight"].T
    x, z = xz.chunk(2, dim=-1)
    e = x.shape[-1]
    x = F.conv2d(x.permute(0, 3, 1, 2), sd[prefix + "conv2d.weight"], sd[prefix + "conv2d.bias"], padding=1, groups=e)
    x = silu(x).flatten(2).transpose(1, 2)  # (B, L, e)
    branches = []
    for k, name in enumerate(directions):
        order = visits(name, height, width, window_padding)
        u = into_sequence(x, order)
        rank = sd[prefix + "dt_projs_weight"].shape[2]
        dt, B, C = (u @ sd[prefix + "x_proj_weight"][k].T).split([rank, D_STATE, D_STATE], dim=-1)
        dt = F.softplus(dt @ sd[prefix + "dt_projs_weight"][k].T + sd[prefix + "dt_projs_bias"][k])
        A = -torch.exp(sd[prefix + "A_logs"][k * e : (k + 1) * e])
        y = recurrence(u, dt, A, B, C, sd[prefix + "Ds"][k * e : (k + 1) * e])
        branches.append(gate_branch(sd, prefix + "multi_scan.attn.", out_of_sequence(y, order), attention))
    y = merge(branches, sd[prefix + "multi_scan.weights"] if search else None)
    y = layer_norm(y, sd[prefix + "out_norm.weight"], sd[prefix + "out_norm.bias"]).unflatten(1, (height, width))
    return (y * silu(z)) @ sd[prefix + "out_proj.weight"].T


def patch_merging(sd: dict[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    """x (B, H, W, c) -> (B, ceil(H / 2), ceil(W / 2), 2c)."""
    height, width = x.shape[1:3]
    even = x.new_zeros(x.shape[0], height + height % 2, width + width % 2, x.shape[3])
    even[:, :height, :width] = x
    x = torch.cat([even[:, r::2, c::2] for r, c in ((0, 0), (1, 0), (0, 1), (1, 1))], dim=-1)
    return layer_norm(x, sd[prefix + "norm.weight"], sd[prefix + "norm.bias"]) @ sd[prefix + "reduction.weight"].T


def naive_local_vmamba(
    state_dict: dict[str, Tensor],
    images: Tensor,
    *,
    directions: list[list[str]],
    depths: list[int],
    patch_size: int = 4,
    search: bool = False,
    window_padding: str = "zeros",
    attention: str = "channel",
) -> Tensor:
    """Logits (B, num_classes) of LocalVMamba for images (B, C, h, w), in evaluation mode."""
    sd = state_dict
    x = F.conv2d(images, sd["patch_embed.0.weight"], sd["patch_embed.0.bias"], stride=patch_size).permute(0, 2, 3, 1)
    x = layer_norm(x, sd["patch_embed.2.weight"], sd["patch_embed.2.bias"])
    flat = 0
    for s, depth in enumerate(depths):
        for b in range(depth):
            block = f"layers.{s}.blocks.{b}."
            normed = layer_norm(x, sd[block + "norm.weight"], sd[block + "norm.bias"])
            x = x + vmamba_op(
                sd,
                block + "op.",
                normed,
                directions=directions[flat],
                search=search,
                window_padding=window_padding,
                attention=attention,
            )
            flat += 1
        if s < len(depths) - 1:
            x = patch_merging(sd, f"layers.{s}.downsample.", x)
    x = layer_norm(x, sd["classifier.norm.weight"], sd["classifier.norm.bias"]).mean((1, 2))
    return x @ sd["classifier.head.weight"].T + sd["classifier.head.bias"]


# ---------------------------------------------------------------- published keys and shapes
Shapes = dict[str, tuple[int, ...]]


def attention_shapes(prefix: str, e: int, attention: str) -> Shapes:
    if attention == "none":
        return {}
    q = int(e * 0.125)
    linears = {"global_reduce": (q, e), "channel_select": (e, q)}
    if attention == "spatial_channel":
        linears |= {"local_reduce": (q, e), "spatial_select": (1, 2 * q)}
    shapes: Shapes = {prefix + "norm.weight": (e,), prefix + "norm.bias": (e,)}
    for name, shape in linears.items():
        shapes |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
    return shapes


def official_vim_shapes(
    *,
    directions: list[list[str]],
    embed_dim: int,
    grid: tuple[int, int] = (14, 14),
    patch_size: int = 16,
    in_chans: int = 3,
    num_classes: int = 1000,
    search: bool = False,
    use_rope: bool = True,
    middle_cls_token: bool = False,
    norm: str = "rms",
    attention: str = "channel",
) -> Shapes:
    """Keys and shapes of a published LocalVim state dict, buffers (`rope.*`) included."""
    d, e, r, tokens = embed_dim, 2 * embed_dim, math.ceil(embed_dim / 16), grid[0] * grid[1]
    norm_parts = ("weight",) if norm == "rms" else ("weight", "bias")
    shapes: Shapes = {"pos_embed": (1, tokens + middle_cls_token, d)}
    if middle_cls_token:
        shapes["cls_token"] = (1, 1, d)
    shapes |= {"patch_embed.proj.weight": (d, in_chans, patch_size, patch_size), "patch_embed.proj.bias": (d,)}
    if use_rope:
        shapes |= {"rope.freqs_cos": (tokens, d), "rope.freqs_sin": (tokens, d)}
    shapes |= {"head.weight": (num_classes, d), "head.bias": (num_classes,)}
    shapes |= {f"norm_f.{part}": (d,) for part in norm_parts}
    for b, candidates in enumerate(directions):
        shapes |= {f"layers.{b}.norm.{part}": (d,) for part in norm_parts}
        mixer = f"layers.{b}.mixer."
        shapes |= {mixer + "in_proj.weight": (2 * e, d), mixer + "out_proj.weight": (d, e)}
        for i in range(len(candidates)):
            shapes |= {
                f"{mixer}A_log_{i}": (e, D_STATE),
                f"{mixer}D_{i}": (e,),
                f"{mixer}conv1d_{i}.weight": (e, 1, 4),
                f"{mixer}conv1d_{i}.bias": (e,),
                f"{mixer}x_proj_{i}.weight": (r + 2 * D_STATE, e),
                f"{mixer}dt_proj_{i}.weight": (e, r),
                f"{mixer}dt_proj_{i}.bias": (e,),
            }
        shapes |= attention_shapes(mixer + "attn.", e, attention)
        if search:
            shapes[mixer + "multi_scan.weights"] = (len(candidates), 1, 1, 1)
    return shapes


def official_vmamba_shapes(
    *,
    directions: list[list[str]],
    dims: list[int],
    depths: list[int],
    patch_size: int = 4,
    in_chans: int = 3,
    num_classes: int = 1000,
    search: bool = False,
    attention: str = "channel",
) -> Shapes:
    """Keys and shapes of a published LocalVMamba state dict."""
    shapes: Shapes = {
        "patch_embed.0.weight": (dims[0], in_chans, patch_size, patch_size),
        "patch_embed.0.bias": (dims[0],),
        "patch_embed.2.weight": (dims[0],),
        "patch_embed.2.bias": (dims[0],),
    }
    flat = 0
    for s, (c, depth) in enumerate(zip(dims, depths, strict=True)):
        e, r = 2 * c, math.ceil(c / 16)
        for b in range(depth):
            k = len(directions[flat])
            flat += 1
            block, op = f"layers.{s}.blocks.{b}.", f"layers.{s}.blocks.{b}.op."
            shapes |= {
                block + "norm.weight": (c,),
                block + "norm.bias": (c,),
                op + "x_proj_weight": (k, r + 2 * D_STATE, e),
                op + "dt_projs_weight": (k, e, r),
                op + "dt_projs_bias": (k, e),
                op + "A_logs": (k * e, D_STATE),
                op + "Ds": (k * e,),
                op + "out_norm.weight": (e,),
                op + "out_norm.bias": (e,),
                op + "in_proj.weight": (2 * e, c),
                op + "conv2d.weight": (e, 1, 3, 3),
                op + "conv2d.bias": (e,),
                op + "out_proj.weight": (c, e),
            }
            shapes |= attention_shapes(op + "multi_scan.attn.", e, attention)
            if search:
                shapes[op + "multi_scan.weights"] = (k, 1, 1, 1)
        if s < len(dims) - 1:
            down = f"layers.{s}.downsample."
            shapes |= {down + "reduction.weight": (2 * c, 4 * c), down + "norm.weight": (4 * c,), down + "norm.bias": (4 * c,)}
    last = dims[-1]
    shapes |= {"classifier.norm.weight": (last,), "classifier.norm.bias": (last,)}
    return shapes | {"classifier.head.weight": (num_classes, last), "classifier.head.bias": (num_classes,)}


def random_state_dict(
    shapes: Shapes, *, grid: tuple[int, int] | None = None, seed: int = 0, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Fill published keys with random values that keep the recurrences stable; rope tables (of `grid`) with their own."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for key, shape in shapes.items():
        noise = torch.randn(shape, generator=generator, dtype=dtype)
        if "A_log" in key:
            noise = 0.5 * noise + torch.log(torch.arange(1, D_STATE + 1, dtype=dtype))
        elif "norm" in key and key.endswith("weight"):
            noise = 1 + 0.2 * noise
        elif len(shape) >= 2 and not key.endswith("multi_scan.weights"):
            noise = noise * math.prod(shape[1:]) ** -0.5
        else:
            noise = 0.5 * noise
        state[key] = noise
    if "rope.freqs_cos" in state:
        dim = shapes["rope.freqs_cos"][1]
        square = grid[0] == grid[1] and dtype == torch.float32
        tables = released_rope_buffers(dim, grid[0]) if square else rope_tables(dim, *grid, dtype)
        state["rope.freqs_cos"], state["rope.freqs_sin"] = tables
    return state
