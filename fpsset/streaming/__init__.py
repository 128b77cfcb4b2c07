"""Aggregates faces that arrive one after another and are not kept."""
