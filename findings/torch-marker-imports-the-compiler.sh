#!/usr/bin/env bash
# A decorator that only marks a function for torch.compile imports the whole compiler when the module is read.
#
# torch.compiler.assume_constant_result sets one attribute, torch.compiler.disable takes a function out of compilation. Yet either
# imports torch._dynamo with sympy when the decorated function is defined, about as much code and time as PyTorch itself. So a
# library that marks one function doubles the start of every process that never compiles anything. Asking
# torch.compiler.is_compiling() costs nothing.
#
# Seen with PyTorch 2.13.0, Python 3.11:
# import torch                            1114 modules, the compiler not among them
# torch.compiler.is_compiling()           1114 modules, the compiler not among them
# @torch.compiler.disable                 1937 modules, the compiler among them
# @torch.compiler.assume_constant_result  1937 modules, the compiler among them
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import subprocess
import sys

PROGRAM = """
import sys
import torch
{marked}
def answer():
    return 42
print(int("torch._dynamo" in sys.modules), len(sys.modules))
"""
CASES = {"": False, "torch.compiler.is_compiling()": False, "@torch.compiler.disable": True, "@torch.compiler.assume_constant_result": True}
for marked, expected in CASES.items():
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(marked=marked)], capture_output=True, text=True, check=True)
    imported, modules = map(int, done.stdout.split())
    print(f"{marked or 'import torch':42} {modules} modules, the compiler {'among them' if imported else 'not among them'}")
    assert bool(imported) is expected, "the decorators import otherwise now"
PY
