from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton (Linux)"
)


@needs_triton
def test_the_kernels_compile_for_tensor_cores(tmp_path: Path) -> None:
    """The interpreter takes Python that the compiler does not; no GPU is needed to compile for one."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(Path(__file__).with_name("compile_kernels.py"))]
    done = subprocess.run(
        command, env=environment | {"TRITON_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kernels) == 6
    for kernel in kernels:
        assert kernel["tensor cores"], kernel
        # what a program may have: 227 KB on 9.0, 99 KB on 8.6
        assert kernel["shared"] <= {90: 227, 86: 99}[kernel["capability"]] * 1024, kernel
