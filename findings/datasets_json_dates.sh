#!/usr/bin/env bash
# datasets 5.2.0 (pyarrow 26.0.1): a JSON column whose texts are all ISO dates is read as timestamps.
# Guessed: texts; JSON has no dates.
# Seen: "1999-01-15" comes back as datetime(1999, 1, 15, 0, 0), whose text is "1999-01-15 00:00:00": no answer that a model
# gives is equal to that. A single row of another form ("unknown", or a day that does not exist) makes all of them texts
# again, so a filter or a split changes the type.
# To do: give `features`, or read the file with `json`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1
printf '{"answer": "1999-01-15"}\n{"answer": "2001-12-31"}\n' > "$folder/dates.jsonl"
printf '{"answer": "1999-01-15"}\n{"answer": "unknown"}\n' > "$folder/mixed.jsonl"
printf '{"answer": "1999-01-15"}\n{"answer": "2020-02-30"}\n' > "$folder/no_such_day.jsonl"
seen=$(HF_HOME="$folder" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" 2> /dev/null << 'PROGRAM'
import sys
from datasets import load_dataset
for name in ("dates", "mixed", "no_such_day"):
    rows = load_dataset("json", data_files=f"{sys.argv[1]}/{name}.jsonl", split="train")
    print(name, rows.features["answer"].dtype, str(rows[0]["answer"]))
PROGRAM
)
expected="dates timestamp[s] 1999-01-15 00:00:00
mixed string 1999-01-15
no_such_day string 1999-01-15"
printf "%s\n" "$seen"
[ "$seen" = "$expected" ] || { echo "this has changed; expected was:"; printf "%s\n" "$expected"; exit 1; }
