#!/usr/bin/env bash
# peft 0.21.2: `adapter_config.json` of one and the same adapter is another file in each process.
# Guessed: `target_modules`, given as a list, is written in the order that was given, or sorted.
# Seen: it is kept as a set and written in the set's order, which goes by PYTHONHASHSEED: two of three hash seeds give
# different files, while the weights beside them are equal to the byte. A hash of an adapter's folder (caches, "has it
# changed?", bit-for-bit checks of a run) never agrees with itself.
# To do: sort the list after saving, or start with one PYTHONHASHSEED.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 peft==0.21.2 transformers==5.23.0
cat > "$folder/save.py" << 'PROGRAM'
import hashlib
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2)
model = LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes))
names = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]
folder = Path(sys.argv[1])
get_peft_model(model, LoraConfig(r=2, target_modules=names)).save_pretrained(folder)
for name in ("adapter_config.json", "adapter_model.safetensors"):
    print(name, hashlib.sha256((folder / name).read_bytes()).hexdigest())
PROGRAM
for seed in 1 2 3; do
    PYTHONHASHSEED=$seed "$folder/venv/bin/python" "$folder/save.py" "$folder/$seed" 2> "$folder/errors" >> "$folder/seen" || {
        cat "$folder/errors"
        exit 1
    }
done
cat "$folder/seen"
configs=$(grep config "$folder/seen" | sort -u | wc -l)
weights=$(grep model "$folder/seen" | sort -u | wc -l)
echo "of three processes: $configs different configurations, $weights different weights"
[ "$configs" -gt 1 ] && [ "$weights" = 1 ]
