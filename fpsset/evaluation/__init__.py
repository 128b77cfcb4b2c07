"""Evaluation: protocols, verification, identification, confidence intervals, calibration."""
