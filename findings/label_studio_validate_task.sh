#!/usr/bin/env bash
# label-studio-sdk 2.1.2: a task that has answers can't be validated; only bare tasks can.
# Guessed: `LabelInterface.validate_task` says whether a task with predictions or annotations fits the labeling config, as
# its result for a task without them does.
# Seen: it raises TypeError for any such task (a method that takes one argument is called without it), although the very
# same prediction and annotation pass `validate_prediction` and `validate_annotation`.
# To do: validate a task without its answers, and each answer by itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check label-studio-sdk==2.1.2
seen=$("$folder/venv/bin/python" - 2> /dev/null << 'PROGRAM'
from label_studio_sdk.label_interface import LabelInterface

config = LabelInterface(
    '<View><Text name="response" value="$response"/><Choices name="verdict" toName="response">'
    '<Choice value="accept"/><Choice value="reject"/></Choices></View>'
)
task = {"data": {"response": "So the answer is 4."}}
result = {"from_name": "verdict", "to_name": "response", "type": "choices", "value": {"choices": ["accept"]}}
answer = {"result": [result]}
print("bare", config.validate_task(task))
for kind in ("prediction", "annotation"):
    print(kind, getattr(config, f"validate_{kind}")(answer))
    try:
        print("task with it", config.validate_task({**task, f"{kind}s": [answer]}))
    except TypeError:
        print("task with it TypeError")
PROGRAM
)
expected="bare True
prediction True
task with it TypeError
annotation True
task with it TypeError"
printf "%s\n" "$seen"
[ "$seen" = "$expected" ] || { echo "this has changed; expected was:"; printf "%s\n" "$expected"; exit 1; }
