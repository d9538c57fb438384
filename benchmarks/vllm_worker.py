"""vLLM as a contestant of `rollout.py`: run by the Python of an environment that has vLLM, not by r1kit's.

    PYTHON vllm_worker.py MODEL_FOLDER DTYPE THREADS

Reads jobs from standard input, one JSON object a line: {"prompts": [[...]], "ends": [...]}; answers each on
standard output with {"seconds": ..., "tokens": ...}, and {"ready": VERSION} first. Settings: eager (there
is no compiler to wait for on small models), in-process engine, prefix caching on, no detokenizing, no
logprobs, which is less work than the others do.
"""

import json
import os
import sys
import time


def main() -> None:
    folder, dtype, threads = sys.argv[1:4]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    # neither statistics nor hub: where there is no network, each would wait for it
    os.environ.update(VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", HF_HUB_OFFLINE="1")
    os.environ["OMP_NUM_THREADS"] = threads
    if int(threads) < (os.cpu_count() or 1):
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # else it takes all cores
    import vllm

    model = vllm.LLM(
        folder,
        dtype=dtype,
        enforce_eager=True,
        max_model_len=512,
        max_num_seqs=256,
        enable_prefix_caching=True,
    )

    def answer(found: dict[str, object]) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    answer({"ready": vllm.__version__})
    for line in sys.stdin:
        job = json.loads(line)
        prompts = [{"prompt_token_ids": prompt} for prompt in job["prompts"]]
        params = [
            vllm.SamplingParams(temperature=1.0, max_tokens=end, ignore_eos=True, detokenize=False)
            for end in job["ends"]
        ]
        start = time.perf_counter()
        outputs = model.generate(prompts, params, use_tqdm=False)
        taken = time.perf_counter() - start
        answer({"seconds": taken, "tokens": sum(len(output.outputs[0].token_ids) for output in outputs)})


if __name__ == "__main__":
    main()
