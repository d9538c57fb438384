"""Preference pairs and safety labels for reward models (DeepSeek-R1 v2, 3.1).

`run_preferences` is a stage; `PreferencesConfig` is its table in a recipe.
"""

from r1kit.preferences.config import PreferencesConfig
from r1kit.preferences.run import run_preferences

__all__ = ["PreferencesConfig", "run_preferences"]
