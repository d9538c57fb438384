"""A worker without a model, for the pool's tests: it answers with its folder's name and what it was asked.

What it does is in the question: `hold` waits to be stopped, `die` ends it, `noise` prints, `garble` says
what is no JSON, and a folder named
`broken` can't be loaded.
"""

import json
import os
import sys
from pathlib import Path


def send(message: dict) -> None:
    print(json.dumps(message), flush=True)


spec = json.loads(sys.stdin.readline())
name = Path(spec["model"]).name
if name == "broken":
    send({"fault": "broken: it can't be loaded."})
    sys.exit()
send({"ready": {"device": "cuda" if spec["device"] == "auto" else "cpu", "dtype": "float32"}})
for line in sys.stdin:
    message = json.loads(line)
    if "stop" in message:
        with open(spec["model"] + ".stopped", "a") as log:
            log.write(f"{message['stop']}\n")
        continue
    key, text = message["ask"], message["text"]
    if text == "die":
        os._exit(3)
    if text == "noise":
        print(
            "Traceback (most recent call last):\n  somewhere\nValueError: noise", file=sys.stderr, flush=True
        )
    if text == "garble":
        print("not JSON", flush=True)
    send({"id": key, "piece": f"{name} {os.getpid()} ", "dim": False})
    if text != "hold":
        send({"id": key, "piece": text, "dim": False})
        send({"id": key, "end": True})
