"""Cold-start data: long, readable reasoning for the first supervised fine-tuning (DeepSeek-R1 v1, 2.3.1).

`run_cold_start` is a stage; `ColdStartConfig` is its table in a recipe.
"""

from r1kit.cold_start.config import ColdStartConfig
from r1kit.cold_start.run import run_cold_start

__all__ = ["ColdStartConfig", "run_cold_start"]
