"""What a recipe will take before it runs: time and money, by stage, each with a range (`r1 plan`).

`work` counts from the configuration what a stage does. `assumptions` says what no configuration holds: how
long completions are, how many records pass the filters. `measure` tries pieces of the work on this machine;
`roofline` works them out for a named GPU of `gpus`. `estimate` puts them together. Memory: `pipeline.memory`.
"""
