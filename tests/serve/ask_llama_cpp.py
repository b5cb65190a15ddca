"""Runs in an environment that has xllamacpp: next-token log-probabilities of llama.cpp for prompts of token ids.

Standard input: {"model": file, "lora": file or "", "prompts": [[id, ...]], "vocab": ids}; the last line of standard output is a
JSON list with one list of log-probabilities, by token id, a prompt.
"""

import json
import sys
from typing import Any

import xllamacpp


def server(model: str, lora: str) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 256
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.fit_params = False
    # Keys and values in 32 bits and plain attention: what is compared is the adapter, not llama.cpp's rounding.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if lora:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(lora, 1.0)]
    return xllamacpp.Server(params)


def next_logprobs(running: Any, prompt: list[int], vocab: int) -> list[float]:
    asked = {"prompt": prompt, "n_predict": 1, "temperature": 0.0, "n_probs": vocab, "cache_prompt": False}
    reply = running.handle_completions(asked)
    if "choices" not in reply:
        raise SystemExit(f"llama.cpp answered {reply}")
    entries = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    found = {int(entry["id"]): float(entry["logprob"]) for entry in entries}
    return [found[token] for token in range(vocab)]


if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    running = server(wanted["model"], wanted["lora"])
    print(json.dumps([next_logprobs(running, prompt, wanted["vocab"]) for prompt in wanted["prompts"]]))
