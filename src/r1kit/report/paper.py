"""The numbers that DeepSeek-R1 published, for comparison with a run's own.

Source: arXiv 2501.12948 v2 (January 2026) and the Nature article (September 2025). They are for a 671B model
on public benchmarks: compare the trend over the stages, not the levels.
"""

PAPER_SOURCE = "DeepSeek-R1, arXiv 2501.12948 v2 and Nature (2025)"
PAPER_STAGES = ("zero", "dev1", "dev2", "dev3", "r1")

# benchmark, and its value for each of PAPER_STAGES
PAPER_TABLE: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("AIME 2024, pass@1", (77.9, 59.0, 74.0, 78.1, 79.8)),
    ("MATH-500, pass@1", (95.9, 94.2, 95.9, 95.4, 97.3)),
    ("GPQA Diamond", (75.8, 66.1, 70.7, 71.2, 71.5)),
    ("LiveCodeBench", (50.0, 57.5, 63.5, 64.6, 65.9)),
    ("Codeforces rating", (1444, 1534, 1687, 1746, 2029)),
    ("MMLU", (88.8, 89.1, 91.2, 91.0, 90.8)),
    ("IF-Eval", (46.6, 71.7, 72.0, 78.1, 83.3)),
    ("AlpacaEval 2.0", (24.7, 50.1, 55.8, 62.1, 87.6)),
    ("ArenaHard", (53.6, 77.0, 73.2, 75.6, 92.3)),
)

# domain, samples, mean tokens of the 800k SFT set
PAPER_SFT_DATA: tuple[tuple[str, int, int], ...] = (
    ("math", 395_285, 6_094),
    ("code", 211_129, 7_436),
    ("STEM", 10_124, 4_929),
    ("logic", 10_395, 2_739),
    ("general", 177_812, 1_420),
    ("total", 804_745, 5_355),
)

PAPER_BASE_NOTE = (
    "From the base model to R1-Zero, AIME 2024 went from 15.6 to 77.9, and length from hundreds to "
    "thousands of tokens."
)
