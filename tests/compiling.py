"""XLA flags for tests: less optimised machine code for the same operations compiles in half the time."""

FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
