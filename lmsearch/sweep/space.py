"""What a sweep varies: `key: range`, typed on the command line as params={key: range, ...} or read from a YAML mapping.

A range is uniform(a, b), log(a, b), int(a, b), int(a, b, step), logint(a, b) or a list of choices [x, y, z].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from lmsearch.errors import SweepError
from lmsearch.words import as_text

FORMS = "uniform(a,b), log(a,b), int(a,b), int(a,b,step), logint(a,b) or a list [x,y,z]"
OPEN, CLOSE = "([{", ")]}"
WORDS = {"null": None, "true": True, "false": False}


@dataclass(frozen=True)
class Parameter:
    """A configuration key and the values that it may take."""

    key: str
    distribution: BaseDistribution

    def word(self, value: Any) -> str:
        """Return the word of the command line that gives the key one of its values."""
        return f"{self.key}={as_text(value)}"

    def probes(self) -> list[Any]:
        """Return the values to try before a sweep begins: every choice, or both ends."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.distribution.choices)
        if isinstance(self.distribution, FloatDistribution | IntDistribution):
            return [self.distribution.low, self.distribution.high]
        raise TypeError(f"{self.distribution!r} has no ends")


def read_parameters(params: str | Mapping[str, Any], *, source: str) -> dict[str, Parameter]:
    """Return the parameters of a mapping or of its text "{key: range, ...}"; raise SweepError, naming `source`, for mistakes."""
    if isinstance(params, str):
        params = _split_mapping(params, source)
    elif not isinstance(params, Mapping):
        raise SweepError(f"{source}: {params!r} is not a mapping of keys to ranges, such as {{optim.lr: log(1e-4,1e-1)}}")
    return {str(key): Parameter(str(key), _read_range(str(key), given, source)) for key, given in params.items()}


def read_words(value: str | Sequence[Any], *, source: str) -> tuple[str, ...]:
    """Return the entries of a list or of its text "[a,b]"; text without brackets is one entry."""
    if not isinstance(value, str):
        return tuple(as_text(entry) for entry in value)
    text = value.strip()
    return tuple(split(text[1:-1], source)) if text.startswith("[") and text.endswith("]") else (value,)


def split(text: str, source: str) -> list[str]:
    """Split at the commas that stand outside of brackets and quotes; quotes around a whole entry are taken off."""
    entries, closing, quote = [""], [], ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in OPEN:
            closing.append(CLOSE[OPEN.index(letter)])
        elif letter in CLOSE and (not closing or closing.pop() != letter):
            raise SweepError(f"{source}: {text!r} has a {letter!r} too many")
        if letter == "," and not closing and not quote:
            entries.append("")
        else:
            entries[-1] += letter
    if closing or quote:
        raise SweepError(f"{source}: {text!r} lacks a closing {quote or closing[-1]!r}")
    entries = [entry.strip() for entry in entries]
    return [_unquoted(entry) for entry in entries] if any(entries) else []


def _split_mapping(text: str, source: str) -> dict[str, str]:
    """Return the entries of "{key: range, ...}"."""
    text = text.strip()
    if not (text.startswith("{") and text.endswith("}")):
        raise SweepError(f"{source}: {text!r} is not of the form {{key: range, ...}}, such as {{optim.lr: log(1e-4,1e-1)}}")
    found: dict[str, str] = {}
    for entry in split(text[1:-1], source):
        key, colon, given = (part.strip() for part in entry.partition(":"))
        if not colon or not key or not given:
            raise SweepError(f"{source}: {entry!r} is not of the form key: range; a range is {FORMS}")
        if key in found:
            raise SweepError(f"{source}: {key} is given twice")
        found[key] = given
    return found


def _read_range(key: str, given: Any, source: str) -> BaseDistribution:
    """Return the distribution of one range."""
    if isinstance(given, str) and given.startswith("[") and given.endswith("]"):
        given = [_scalar(entry) for entry in split(given[1:-1], source)]
    if isinstance(given, (list, tuple)):
        return _choices(key, given, source)
    match = re.fullmatch(r"(uniform|log|int|logint)\((.*)\)", str(given).strip())
    if match is None:
        raise SweepError(f"{source}: {key}: {given!r} is not a range; accepted: {FORMS}")
    form, numbers = match[1], [_number(key, text, match[1], source) for text in split(match[2], source)]
    if len(numbers) not in ((2, 3) if form == "int" else (2,)):
        raise SweepError(f"{source}: {key}: {given!r} holds {len(numbers)} numbers; accepted: {FORMS}")
    low, high = numbers[:2]
    if not low < high:
        raise SweepError(f"{source}: {key}: {given!r} is empty; the first number must be below the second")
    if form.startswith("log") and low <= 0:
        raise SweepError(f"{source}: {key}: {given!r} must lie above 0, since its logarithm is drawn uniformly")
    if not form.endswith("int"):
        return FloatDistribution(low, high, log=form == "log")
    step = numbers[2] if len(numbers) == 3 else 1
    if step < 1 or (high - low) % step:
        raise SweepError(f"{source}: {key}: {given!r}: steps of {step} do not lead from {low} to {high}")
    return IntDistribution(int(low), int(high), log=form == "logint", step=int(step))


def _choices(key: str, given: Sequence[Any], source: str) -> CategoricalDistribution:
    """Return the distribution over a list; an entry that is a list itself is taken as its text.

    Text is read as on the command line: YAML takes 1e-3, without a dot, for text.
    """
    entries = [as_text(entry) if isinstance(entry, (list, tuple)) else entry for entry in given]
    entries = [_scalar(entry) if isinstance(entry, str) else entry for entry in entries]
    if not entries or len({as_text(entry) for entry in entries}) < len(entries):
        raise SweepError(f"{source}: {key}: {as_text(given)!r} must hold at least one choice, and none of them twice")
    for one, other in combinations(entries, 2):
        if one == other:  # such as true and 1: Optuna finds a choice by comparing, and would write down the first for both
            raise SweepError(f"{source}: {key}: {as_text(one)} and {as_text(other)} are one choice for Optuna; leave one out")
    return CategoricalDistribution(entries)


def _number(key: str, text: str, form: str, source: str) -> int | float:
    """Read a finite number, a whole one for int and logint."""
    kind, what = (int, "an integer") if form.endswith("int") else (float, "a number")
    try:
        value = kind(text)
    except ValueError:
        raise SweepError(f"{source}: {key}: {text!r} in {form}(...) is not {what}") from None
    if abs(value) == float("inf") or value != value:
        raise SweepError(f"{source}: {key}: {text!r} in {form}(...) is not a finite number")
    return value


def _scalar(text: str) -> Any:
    """Read a choice as a number, true, false or null, or keep its text."""
    if text in WORDS:
        return WORDS[text]
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if value == value else text
    return text


def _unquoted(entry: str) -> str:
    """Take off quotes that stand around the whole of an entry."""
    whole = len(entry) > 1 and entry[0] in "'\"" and entry.find(entry[0], 1) == len(entry) - 1
    return entry[1:-1] if whole else entry
