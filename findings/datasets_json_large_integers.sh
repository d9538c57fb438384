#!/usr/bin/env bash
# datasets 5.2.0 (pyarrow 26.0.1): whole numbers of a JSON file that do not fit into 64 bits become floats, and one float or
# one such number turns the whole column into floats.
# Guessed: an error, or Python's whole numbers, as `json.loads` gives them.
# Seen: 2^64 + 1 is 18446744073709551616, one less; beside it, and beside 0.5, 2^53 + 1 is 2^53. Nothing is said. Answers of
# contests in number theory are such numbers; an exact comparison then fails, or is won by a wrong one.
# To do: write answers as texts.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1
printf '{"answer": 9007199254740993}\n{"answer": 2}\n' > "$folder/small.jsonl"
printf '{"answer": 9007199254740993}\n{"answer": 18446744073709551617}\n' > "$folder/large.jsonl"
printf '{"answer": 9007199254740993}\n{"answer": 0.5}\n' > "$folder/mixed.jsonl"
seen=$(HF_HOME="$folder" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" 2> /dev/null << 'PROGRAM'
import sys
from datasets import load_dataset
for name in ("small", "large", "mixed"):
    rows = load_dataset("json", data_files=f"{sys.argv[1]}/{name}.jsonl", split="train")
    print(name, rows.features["answer"].dtype, [str(int(value)) if value == int(value) else str(value) for value in rows["answer"]])
PROGRAM
)
expected="small int64 ['9007199254740993', '2']
large float64 ['9007199254740992', '18446744073709551616']
mixed float64 ['9007199254740992', '0.5']"
printf "%s\n" "$seen"
[ "$seen" = "$expected" ] || { echo "this has changed; expected was:"; printf "%s\n" "$expected"; exit 1; }
