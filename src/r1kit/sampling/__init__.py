"""Completions: what an engine is (`engine`), ours (`local`), and sampling with logs and over ranks."""
