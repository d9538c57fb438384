#!/usr/bin/env bash
# datasets 5.2.0 (pyarrow 26.0.1): a JSON column in which texts and numbers are mixed gets the type Json, and texts in it
# that are themselves JSON are decoded.
# Guessed: an error, or all as text, or each value as it stands in the file.
# Seen: the text "007" is the number 7, "1.50" is 1.5, "true" is True, "null" is None, "[1, 2]" is a list; only what is no
# JSON ("Paris") stays a text. One row with a bare number is enough, anywhere in the file. Ground truths change so.
# To do: write such a column as texts throughout, or read the file with `json`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1
cat > "$folder/texts.jsonl" << 'ROWS'
{"answer": "007"}
{"answer": "1.50"}
{"answer": "true"}
{"answer": "null"}
{"answer": "[1, 2]"}
{"answer": "Paris"}
ROWS
{ cat "$folder/texts.jsonl"; echo '{"answer": 2}'; } > "$folder/mixed.jsonl"
seen=$(HF_HOME="$folder" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" 2> /dev/null << 'PROGRAM'
import sys
from datasets import load_dataset
for name in ("texts", "mixed"):
    rows = load_dataset("json", data_files=f"{sys.argv[1]}/{name}.jsonl", split="train")
    print(name, rows["answer"][:6])
PROGRAM
)
expected="texts ['007', '1.50', 'true', 'null', '[1, 2]', 'Paris']
mixed [7, 1.5, True, None, [1, 2], 'Paris']"
printf "%s\n" "$seen"
[ "$seen" = "$expected" ] || { echo "this has changed; expected was:"; printf "%s\n" "$expected"; exit 1; }
