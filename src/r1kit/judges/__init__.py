"""LLM judges: the requests and prompts, the connection to a model, and the cache of replies."""
