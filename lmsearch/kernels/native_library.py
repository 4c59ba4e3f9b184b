"""The native CPU library as ctypes sees it: its argument blocks, how it is found and how it is called.

The library is the one an install compiled or else one built on demand (see build.py). LMSEARCH_NATIVE_ISA=avx512|avx2|portable
forces an instruction set.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache

import torch
from torch import Tensor

from lmsearch.errors import BackendUnavailableError, KernelError
from lmsearch.kernels.build import build_library, installed_library

CHUNK, PAD, MAX_TAPS = 32, 16, 8  # kMaxChunk, kPad, kMaxTaps of csrc/args.h
ISAS = ("avx512", "avx2", "portable")
ABI = 5
Pointer, Int = ctypes.c_void_p, ctypes.c_int64


def _struct(name: str, ints: str, pointers: str, doubles: str = "") -> type[ctypes.Structure]:
    kinds = ((Int, ints), (ctypes.c_double, doubles), (Pointer, pointers))
    fields = [(n, kind) for kind, names in kinds for n in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


ScanArgs = _struct(
    "ScanArgs",
    "B K L D N R threads softplus x_shared k_major "
    "x_b x_k x_l delta_b delta_k delta_l B_b B_k B_l C_b C_k C_l z_b z_l dy_b dy_k dy_l",
    "x delta A Bm Cm Dv z bias weight order reset y states dy dx ddelta dA dB dC dD dz dbias dweight",
)
ConvArgs = _struct("ConvArgs", "B K L D W threads x_b x_l dy_b dy_k dy_l", "x weight bias order y dy dx dweight dbias")
MergeArgs = _struct("MergeArgs", "B K L D threads", "x gate spatial weights y moments dy dx dgate dspatial dweights", "eps")


@lru_cache(maxsize=None)
def load_library() -> ctypes.CDLL:
    """Load the installed library, or the one built on demand where there is none of this ABI."""
    abi = ABI * 10000 + sum(map(ctypes.sizeof, (ScanArgs, ConvArgs, MergeArgs)))
    for find in (installed_library, build_library):
        path = find()
        if path is None:
            continue
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            raise BackendUnavailableError(f"cannot load {path} ({error}); delete it and run again") from error
        if library.lms_abi() == abi:
            library.lms_kernels.restype = ctypes.c_char_p
            return library
    raise BackendUnavailableError(f"{path} does not match this version of lmsearch; delete it and run again")


def instruction_set() -> str:
    """Return the instruction set in use: LMSEARCH_NATIVE_ISA or the best this CPU has; raise for one it lacks."""
    wanted = os.environ.get("LMSEARCH_NATIVE_ISA", "")
    if wanted and wanted not in ISAS:
        raise BackendUnavailableError(f"LMSEARCH_NATIVE_ISA={wanted!r}; expected one of {', '.join(ISAS)}")
    found = load_library().lms_kernels(wanted.encode()).decode()
    if not found:
        raise BackendUnavailableError(f"LMSEARCH_NATIVE_ISA={wanted}: this CPU or build lacks it")
    return found


def call(function: str, args: ctypes.Structure) -> None:
    """Run a C function with the chosen instruction set; raise where that is missing or memory runs out."""
    code = getattr(load_library(), function)(os.environ.get("LMSEARCH_NATIVE_ISA", "").encode(), ctypes.byref(args))
    if code == 1:
        instruction_set()  # raises, naming the variable
    if code == 2:
        raise MemoryError(f"{function} could not allocate its work space")
    if code == 3:
        raise KernelError(f"order holds a row that is not a permutation of range({args.L})")


def rows(t: Tensor) -> Tensor:
    """Return t, copied where its last axis is not dense: the kernels take any other stride."""
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


def address(t: Tensor | None) -> int | None:
    """Return where the data of t are, null for None."""
    return None if t is None else t.data_ptr()


def strides(prefix: str, t: Tensor, names: str) -> dict[str, int]:
    """Return the strides of t's first axes as the fields <prefix>_<letter of names>."""
    return {f"{prefix}_{n}": s for n, s in zip(names, t.stride(), strict=False)}


def by_direction(shape: torch.Size, like: Tensor) -> Tensor:
    """Return an empty float32 tensor of a shape (B, K, ...) on the device of `like`, in memory as (K, B, ...)."""
    return like.new_empty((shape[1], shape[0], *shape[2:]), dtype=torch.float32).transpose(0, 1)


def is_by_direction(t: Tensor) -> bool:
    """True where t (B, K, ...) lies in memory as (K, B, ...), so that a direction's tokens are the rows of one matrix."""
    return t.shape[0] > 1 and t.shape[1] > 1 and t.stride(1) > t.stride(0)


def refuse_second_derivative(ctx, *grads):
    """Stand in for the backward of a backward operator: raise KernelError."""
    raise KernelError("the native kernels have no second derivatives; use backend='reference' for them")
