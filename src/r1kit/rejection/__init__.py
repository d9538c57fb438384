"""Data of the second supervised fine-tuning: rejection sampling and general data (DeepSeek-R1 v1, 2.3.3).

`run_rejection` is a stage; `RejectionConfig` is its table in a recipe.
"""

from r1kit.rejection.config import RejectionConfig
from r1kit.rejection.run import run_rejection

__all__ = ["RejectionConfig", "run_rejection"]
