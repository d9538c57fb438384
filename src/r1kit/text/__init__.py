"""Text as models read and write it: templates, prompts, turns, languages, filters."""
