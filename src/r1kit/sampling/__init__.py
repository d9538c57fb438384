"""Sampling completions: the engine protocol, our own engine (`local`), logged and multi-rank sampling."""
