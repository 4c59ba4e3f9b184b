"""How often layers keep directions of a kind, against layers that draw theirs at random: exact distributions and permutations.

K candidates and k kept directions of a layer; L layers. Counts are whole numbers per layer; shares are counts over k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations

import numpy as np

from lmsearch.stats.intervals import Interval, over_seeds

PERMUTATIONS = 20_000
FLIP = "_flip"
RASTER = ("h", "v")


@dataclass(frozen=True)
class Layer:
    """What a layer kept of its candidates. `same` maps candidates that visit its grid as another one does to that one."""

    kept: tuple[str, ...]
    candidates: tuple[str, ...]
    same: Mapping[str, str] = field(default_factory=dict)

    def orders(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return directions by what they do on this grid: where w7 is h, it counts as h."""
        return tuple(self.same.get(name, name) for name in names)


def raster(orders: Sequence[str]) -> int:
    """Rows or columns, either way."""
    return sum(name.removesuffix(FLIP) in RASTER for name in orders)


def small_windows(orders: Sequence[str]) -> int:
    """Windows of 2x2 tokens."""
    return sum(name.removesuffix(FLIP) == "w2" for name in orders)


def large_windows(orders: Sequence[str]) -> int:
    """Windows of 4x4 or 7x7 tokens."""
    return sum(name.removesuffix(FLIP) in ("w4", "w7") for name in orders)


def flips(orders: Sequence[str]) -> int:
    """Directions that run backwards."""
    return sum(name.endswith(FLIP) for name in orders)


def both_ways(orders: Sequence[str]) -> int:
    """Orders of which forwards and backwards are kept."""
    return sum(name + FLIP in orders for name in set(orders))


KINDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "raster": raster, "windows of 2": small_windows, "larger windows": large_windows, "flips": flips, "both ways": both_ways,
}  # fmt: skip


def chances(layer: Layer, count: Callable[[Sequence[str]], int]) -> np.ndarray:
    """Return the probabilities of 0, 1, ... k where the layer draws its directions from the candidates, all sets alike."""
    return _chances(layer.orders(layer.candidates), len(layer.kept), count)


@lru_cache(maxsize=None)
def _chances(orders: tuple[str, ...], kept: int, count: Callable[[Sequence[str]], int]) -> np.ndarray:
    counts = [count(drawn) for drawn in combinations(orders, kept)]
    return np.bincount(counts, minlength=kept + 1) / len(counts)


def expected(layer: Layer, count: Callable[[Sequence[str]], int]) -> float:
    """Return the mean of `chances`."""
    found = chances(layer, count)
    return float(found @ np.arange(len(found)))


def level_p(layers: Sequence[Layer], count: Callable[[Sequence[str]], int]) -> float:
    """Two-sided p-value of the count over all layers, against independent random draws in each: P(|T - E T| >= |t - E T|)."""
    whole = np.ones(1)
    for layer in layers:
        whole = np.convolve(whole, chances(layer, count))
    mean = float(whole @ np.arange(len(whole)))
    seen = sum(count(layer.orders(layer.kept)) for layer in layers)
    far = np.abs(np.arange(len(whole)) - mean) >= abs(seen - mean) - 1e-9
    return float(f"{min(1.0, float(whole[far].sum())):.3g}")


def shares(layers: Sequence[Layer], count: Callable[[Sequence[str]], int]) -> np.ndarray:
    """Return, per layer, the share of its directions that are of a kind minus the share by chance (L,)."""
    return np.array([(count(layer.orders(layer.kept)) - expected(layer, count)) / len(layer.kept) for layer in layers])


def trend(values: np.ndarray, *, seed: int) -> tuple[Interval, float]:
    """Return by how much values (L,) change from the first to the last layer, by a straight line, and its p-value."""
    return line(np.linspace(-0.5, 0.5, len(values)), values, seed=seed)


def line(x: np.ndarray, values: np.ndarray, *, seed: int) -> tuple[Interval, float]:
    """Return by how much values (N,) change with one more of x (N,), and a two-sided permutation p-value.

    The change is that of a least-squares line; its 95 % interval takes the residuals as independent.
    """
    from scipy.stats import t  # slow to import

    x = x - x.mean()
    slope = float(x @ values / (x @ x))
    rest = values - values.mean() - slope * x
    half = float(t.ppf(0.975, len(values) - 2)) * float(np.sqrt(rest @ rest / (len(values) - 2) / (x @ x)))
    rng = np.random.default_rng(seed)
    drawn = np.abs(rng.permuted(np.tile(values, (PERMUTATIONS, 1)), axis=1) @ x / (x @ x))
    p = (1 + int((drawn >= abs(slope) - 1e-9).sum())) / (1 + PERMUTATIONS)
    return Interval(slope, slope - half, slope + half), p


def neighbours(layers: Sequence[Layer], *, seed: int) -> tuple[float, float, float]:
    """Return how many directions a layer shares with the next one, any two layers, and a two-sided permutation p-value."""
    names = layers[0].candidates
    kept = np.array([[name in layer.kept for name in names] for layer in layers], dtype=float)  # (L, K)
    common = kept @ kept.T
    any_two = float(common[np.triu_indices(len(layers), 1)].mean())
    seen = float(np.diag(common, 1).mean())
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(np.arange(len(layers)), (PERMUTATIONS, 1)), axis=1)
    drawn = common[orders[:, :-1], orders[:, 1:]].mean(axis=1)
    p = (1 + int((np.abs(drawn - any_two) >= abs(seen - any_two) - 1e-9).sum())) / (1 + PERMUTATIONS)
    return seen, any_two, p


def over_units(values: Sequence[float] | np.ndarray) -> list[float]:
    """Return mean, low and high over what repeats (layers of a list, or runs), to four digits."""
    found = over_seeds(values) if len(values) > 1 and np.ptp(values) > 0 else Interval(*[float(np.mean(values))] * 3)
    return [round(v, 4) for v in (found.mean, found.low, found.high)]
