"""TFDS builders of the prepared datasets."""
