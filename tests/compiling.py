"""XLA flags for tests: less optimised machine code for the same operations compiles in half the time."""

from importlib.metadata import version

_FLAGS = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
_FLAGS.append("--xla_cpu_parallel_codegen_split_count=1")  # other tests run on the other cores
if tuple(map(int, version("jaxlib").split(".")[:3])) <= (0, 11, 0):  # XLA aborts on flags that it lacks
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
FLAGS = " ".join(_FLAGS)
