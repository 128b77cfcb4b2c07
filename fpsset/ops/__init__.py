"""Pure functions of arrays: the metric, the sampling, the norm encoding and the attention."""
