"""Engines sample completions; `base` is their protocol."""
