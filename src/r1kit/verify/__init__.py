"""Is the answer right? Answer extraction from responses, and comparison with the ground truth."""
