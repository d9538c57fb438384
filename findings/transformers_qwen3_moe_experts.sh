#!/usr/bin/env bash
# transformers 5.23.0 and 4.57.1: a Qwen3-MoE configuration that 5.x saves has another number of experts for 4.x.
# Guessed: the same number, or an error; `config.json` is what versions and engines share.
# Seen: 5.x writes `num_experts` under the name `num_local_experts` (its attribute map); 4.57 looks for `num_experts`, finds
# none and takes its default of 128, without a word. A model of 8 experts is then built with 128, of which 120 are random.
# To do: write both names into config.json.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 5.23.0 4.57.1; do
    "${PYTHON:-python3}" -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "transformers==$version"
done
"$folder/5.23.0/bin/python" - "$folder/model" 2> /dev/null << 'PROGRAM'
import sys

from transformers import Qwen3MoeConfig

Qwen3MoeConfig(num_experts=8, num_hidden_layers=2).save_pretrained(sys.argv[1])
PROGRAM
read_with() {
    "$folder/$1/bin/python" - "$folder/model" 2> /dev/null << 'PROGRAM'
import sys

from transformers import AutoConfig

print(AutoConfig.from_pretrained(sys.argv[1]).num_experts)
PROGRAM
}
seen="saved: 8 experts; read by 5.23.0: $(read_with 5.23.0), by 4.57.1: $(read_with 4.57.1)"
echo "$seen"
[ "$seen" = "saved: 8 experts; read by 5.23.0: 8, by 4.57.1: 128" ]
