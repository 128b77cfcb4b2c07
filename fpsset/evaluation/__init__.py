"""Descriptors of templates, verification and reports."""
