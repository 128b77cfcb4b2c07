"""The data that a run trains on and is evaluated on, and datasets prepared once with TFDS."""
