"""What every training stage shares: the update, losses, the optimizer, checkpoints, the log of metrics."""
