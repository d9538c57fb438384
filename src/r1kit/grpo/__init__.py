"""GRPO: reinforcement learning from rewards of sampled groups, without a value model (DeepSeek-R1, 2.1).

`run_grpo` is a stage; `GrpoConfig` its table in a recipe.
"""

from r1kit.grpo.config import GrpoConfig
from r1kit.grpo.run import run_grpo

__all__ = ["GrpoConfig", "run_grpo"]
