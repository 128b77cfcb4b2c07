"""TFDS builders of the datasets that this package trains and evaluates on. They need no TensorFlow."""
