"""Pure functions of arrays: metric, sampling, norm encoding, attention and masking."""
