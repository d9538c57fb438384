#!/usr/bin/env bash
# math-verify 0.9.0 (latex2sympy2_extended 1.11.0): `\gamma` is a number or a function, by whether a space follows it.
# Guessed: a symbol, as `\alpha` and `\beta` are, and spaces mean nothing in LaTeX.
# Seen: `\gamma + 1` is Euler's constant plus 1, `\gamma+1` is the gamma function of +1, which is 1, and `2\gamma+1` is 3;
# `\beta+1` is `beta + 1`. The truth `\gamma+1` is won by 1 and lost by `1+\gamma`.
# To do: rename the angle, or refuse truths with `\gamma`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check math-verify==0.9.0 latex2sympy2_extended==1.11.0 \
    antlr4-python3-runtime==4.13.2 sympy==1.14.0
seen=$("$folder/venv/bin/python" - << 'PROGRAM'
from math_verify import parse, verify

for text in (r"\gamma + 1", r"\gamma+1", r"2\gamma+1", r"\beta+1"):
    print(text, "is", parse(f"${text}$")[0])
truth = parse(r"$\gamma+1$")
print("won by 1:", verify(truth, parse("$1$")), "by the sum turned round:", verify(truth, parse(r"$1+\gamma$")))
PROGRAM
)
echo "$seen"
[ "$seen" = '\gamma + 1 is EulerGamma + 1
\gamma+1 is 1
2\gamma+1 is 3
\beta+1 is beta + 1
won by 1: True by the sum turned round: False' ]
