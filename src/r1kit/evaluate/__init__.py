"""Sampling, grading and statistics of one model (`run.evaluate_model`)."""
