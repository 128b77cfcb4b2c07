"""How tests compile: the same operations as everywhere, in plainer machine code, in half the time."""

FLAGS = "--xla_backend_optimization_level=0"
