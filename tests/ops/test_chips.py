"""Precision as the compilers of chips have it: `-m chips` reads it.

It needs `pip install -e '.[aot]'` for TPUs, and for GPUs JAX's CUDA plugin, see docs/scale.md. With these
installed JAX would look for chips in all other tests, so `.ci/run` installs them last.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.runs import ROOT

pytestmark = pytest.mark.chips
# Compilers read the environment when JAX starts, so they have a process of their own.
_COMPILE = """
import json, sys
sys.path.insert(0, "benchmarks")
import accelerators, jax.numpy as jnp
accelerators.DIM = 64
found = {}
for dtype in ("float32", "bfloat16"):
    found[dtype] = accelerators.sets_program(sys.argv[1], 16, 8, jnp.dtype(dtype))[0].text
json.dump(found, sys.stdout)
"""
_COMPILE_KERNEL = """
import json, sys
sys.path.insert(0, "benchmarks")
import accelerators, jax.numpy as jnp
accelerators.DIM = 128
found = {}
for chip, *sets, dtype, options in (
    ("v5e", 20, 8, "float32", {"num_heads": 2}),
    ("v6e", 9, 128, "bfloat16", {"num_heads": 1, "quality": True}),
):
    program, *_ = accelerators.sets_program(chip, *sets, jnp.dtype(dtype), kernel=True, **options)
    found[dtype] = program.text
json.dump(found, sys.stdout)
"""


def compiled(chip: str, program: str = _COMPILE, **environment: str) -> dict[str, str]:
    """The compiled text of a small FaceCoresetNet by dtype."""
    process = subprocess.run(
        [sys.executable, "-c", program, chip],
        cwd=ROOT,
        # Not every compiler knows the flags for CPUs that tests set.
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads(process.stdout)


def products(text: str) -> list[str]:
    return [line for line in text.splitlines() if " convolution(" in line or " dot(" in line]


def check(texts: dict[str, str]) -> None:
    exact = products(texts["float32"])
    assert exact and all("operand_precision={highest,highest}" in line for line in exact)
    assert "bf16[" not in texts["float32"] and "tf32" not in texts["float32"].lower()
    rounded = products(texts["bfloat16"])
    assert rounded and not any("operand_precision" in line for line in rounded)
    assert "bf16[" in texts["bfloat16"]


def test_a_tpu_takes_the_kernel_for_small_sets():
    texts = compiled("v5e", _COMPILE_KERNEL)
    assert all("tpu_custom_call" in text for text in texts.values())
    assert not any(products(text) for text in texts.values())  # all are within the kernel
    assert "bf16[" not in texts["float32"] and "bf16[" in texts["bfloat16"]


def test_a_tpu_multiplies_as_asked():
    check(compiled("v5e"))


def test_a_gpu_multiplies_as_asked(shared):
    check(compiled("h100", GPU_TARGET=str(shared / "accelerators/h100.txtpb")))
