"""A Hugging Face causal LM: loading, saving, its layers, and its logprobs over packed rows."""
