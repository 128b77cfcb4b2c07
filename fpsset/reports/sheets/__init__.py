"""Coreset sheets: one explained set as text, as a picture and as a page."""
