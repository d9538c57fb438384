#!/usr/bin/env bash
# math-verify 0.9.0 (latex2sympy2_extended 1.11.0): a set as truth is won by ordered pairs of its members, in any order.
# Guessed: `\{1, 2\}` is a set and `(2, 1)` a point; equality is symmetric and transitive.
# Seen: the truth `\{1, 2\}` is won by `(1, 2)` and by `(2, 1)`, which are not equal to each other: `(1, 2)` is read as an
# open interval, `(2, 1)` as a point. The truth `(1, 2)` is won by the set, the truth `(2, 1)` is not. Where a set is asked
# for a point is paid, and votes that are counted by this equality depend on which answer came first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check math-verify==0.9.0 latex2sympy2_extended==1.11.0 \
    antlr4-python3-runtime==4.13.2 sympy==1.14.0
seen=$("$folder/venv/bin/python" - << 'PROGRAM'
from math_verify import parse, verify
for one, other in ((r"$\{1,2\}$", "$(1,2)$"), (r"$\{1,2\}$", "$(2,1)$"), ("$(1,2)$", "$(2,1)$")):
    print(one, other, verify(parse(one), parse(other)), verify(parse(other), parse(one)))
print(type(parse("$(1,2)$")[0]).__name__, type(parse("$(2,1)$")[0]).__name__)
PROGRAM
)
expected='$\{1,2\}$ $(1,2)$ True True
$\{1,2\}$ $(2,1)$ True False
$(1,2)$ $(2,1)$ False False
Interval Tuple'
printf "%s\n" "$seen"
[ "$seen" = "$expected" ] || { echo "this has changed; expected was:"; printf "%s\n" "$expected"; exit 1; }
