"""Is it right? Answers read out of responses, and their comparison with the ground truth."""
