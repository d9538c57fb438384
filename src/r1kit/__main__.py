"""`python -m r1kit` is `r1`: what torchrun starts."""

from r1kit.cli import main

main()
