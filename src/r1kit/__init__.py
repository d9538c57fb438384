"""r1kit: the DeepSeek-R1 training recipe, whole - `r1 run recipe.toml`."""

import os

# Before torch is imported: OpenMP threads that wait by spinning collapse when another program uses the cores
# (measured with two threads on a busy machine: 80 s for what takes 8 s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
