#!/usr/bin/env bash
# math-verify 0.9.0 (latex2sympy2_extended 1.11.0): two numbers beside each other in parentheses are added.
# Guessed: `2(3)` and `(2)(3)` are products, as `2(3+4)`, `2(x)` and `2(-3)` are for the same parser.
# Seen: `2(3)` is 5, `(2)(3)` is 5, `5(1)(2)` is 8 and `4(\frac12)` is 9/2: the rule for mixed numbers (`2\frac12`) takes them.
# The truth `2(3)` is won by 5 and lost by 6.
# To do: write `\cdot`, or refuse truths in which a number stands before a parenthesis.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check math-verify==0.9.0 latex2sympy2_extended==1.11.0 \
    antlr4-python3-runtime==4.13.2 sympy==1.14.0
seen=$("$folder/venv/bin/python" - << 'PROGRAM'
from math_verify import parse, verify

for text in ("2(3)", "(2)(3)", "5(1)(2)", r"4(\frac12)", "2(3+4)", "2(-3)", r"2\cdot 3"):
    print(text, "=", parse(f"${text}$")[0].doit())
truth = parse("$2(3)$")
print("won by 5:", verify(truth, parse("$5$")), "by 6:", verify(truth, parse("$6$")))
PROGRAM
)
echo "$seen"
[ "$seen" = '2(3) = 5
(2)(3) = 5
5(1)(2) = 8
4(\frac12) = 9/2
2(3+4) = 14
2(-3) = -6
2\cdot 3 = 6
won by 5: True by 6: False' ]
