#!/usr/bin/env bash
# math-verify 0.9.0 (latex2sympy2_extended 1.11.0): a transpose is dropped, and capitals are made small.
# Guessed: `A^T` is a power or a transpose, anything but `A`; `A` and `a` are two names.
# Seen: `A^T`, `A` and `a` are one and the same symbol, `A^TB` is `ab`. In linear algebra the truth `A^TA` is won by `A^2`,
# and `B^TA` by `AB`.
# To do: refuse truths with a transpose, or compare them as text.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check math-verify==0.9.0 latex2sympy2_extended==1.11.0 \
    antlr4-python3-runtime==4.13.2 sympy==1.14.0
seen=$("$folder/venv/bin/python" - << 'PROGRAM'
from math_verify import parse, verify

for text in ("A^T", "A", "A^TB"):
    print(text, "is", parse(f"${text}$")[0])
for truth, answer in (("A^TA", "A^2"), ("B^TA", "AB"), ("A^T", "a")):
    print(truth, "won by", answer, verify(parse(f"${truth}$"), parse(f"${answer}$")))
PROGRAM
)
echo "$seen"
[ "$seen" = 'A^T is a
A is a
A^TB is a*b
A^TA won by A^2 True
B^TA won by AB True
A^T won by a True' ]
