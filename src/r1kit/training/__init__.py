"""Shared by all training stages: the update, losses, the optimizer, checkpoints and the metrics log."""
