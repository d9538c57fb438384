"""Data in and out: JSON Lines, records of the project's types, problem sources and their mappings."""
