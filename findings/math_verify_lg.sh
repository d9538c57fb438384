#!/usr/bin/env bash
# math-verify 0.9.0 (latex2sympy2_extended 1.11.0): functions that its parser does not know by their command are left out,
# and their argument stands for the whole.
# Guessed: `\lg 100` is 2, or can't be parsed, as `\operatorname{sgn}(-3)` can't.
# Seen: `\lg 100` is 100, and so are `\det` and `\deg` of it; `\log 100` is 2, to the base 10, which makes `\log e` no 1.
# A truth with `\lg` is won by its argument. To do: refuse such truths, or write `\log_{10}`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check math-verify==0.9.0 latex2sympy2_extended==1.11.0 \
    antlr4-python3-runtime==4.13.2 sympy==1.14.0
seen=$("$folder/venv/bin/python" - << 'PROGRAM'
from math_verify import parse, verify
for truth, answer in ((r"$\lg 100$", "$100$"), (r"$\lg 100$", "$2$"), (r"$\log 100$", "$2$"), (r"$\log e$", "$1$")):
    print(truth, answer, verify(parse(truth), parse(answer)))
PROGRAM
)
expected='$\lg 100$ $100$ True
$\lg 100$ $2$ False
$\log 100$ $2$ True
$\log e$ $1$ False'
printf "%s\n" "$seen"
[ "$seen" = "$expected" ] || { echo "this has changed; expected was:"; printf "%s\n" "$expected"; exit 1; }
