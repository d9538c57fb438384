#!/usr/bin/env bash
# safetensors 0.8.0 with numpy 2.4.6: `safetensors.numpy.save_file` takes views that are not contiguous (a transposed matrix,
# every other number) and saves the numbers as they lie in memory, under the view's shape.
# Guessed: the view's own numbers, as `numpy.save` writes them, or an error, as `safetensors.torch` raises for such a tensor.
# Seen: other numbers, without a word: [[0, 3], [1, 4], [2, 5]] comes back as [[0, 1], [2, 3], [4, 5]], and [0, 2, 4] as
# [0, 1, 2]. Its docstring asks for contiguous arrays, and nothing checks. Converters that transpose (linear layers between frameworks) write broken weights of the right shape.
# To do: `numpy.ascontiguousarray` on everything that is saved.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
seen=$("$folder/venv/bin/python" - "$folder/x.safetensors" << 'PROGRAM'
import sys
import numpy as np
from safetensors.numpy import load_file, save_file
numbers = np.arange(6, dtype=np.float32)
views = {"transposed": numbers.reshape(2, 3).T, "strided": numbers[::2]}
save_file(views, sys.argv[1])
for name, found in sorted(load_file(sys.argv[1]).items()):
    print(name, views[name].tolist(), "is saved as", found.tolist())
save_file({name: np.ascontiguousarray(view) for name, view in views.items()}, sys.argv[1])
print("contiguous", all(np.array_equal(views[name], found) for name, found in load_file(sys.argv[1]).items()))
PROGRAM
)
expected="strided [0.0, 2.0, 4.0] is saved as [0.0, 1.0, 2.0]
transposed [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]] is saved as [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
contiguous True"
printf "%s\n" "$seen"
[ "$seen" = "$expected" ] || { echo "this has changed; expected was:"; printf "%s\n" "$expected"; exit 1; }
