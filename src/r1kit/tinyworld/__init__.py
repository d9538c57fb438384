"""The embedded default: a small bilingual world that a tiny model learns for real."""
