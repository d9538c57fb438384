"""A Hugging Face causal LM: loading and saving it, its layers, and its logprobs over packed rows."""
