"""Runs set models on NumPy arrays: aggregation, explanation, advice, galleries and export."""
