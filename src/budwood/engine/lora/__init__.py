"""LoRA: adapters in memory and on disk, and a bank that puts many of them on one base.

    bank = AdapterBank.attach(model)
    config = LoraConfig(rank=16, alpha=32, targets=target_paths(model, "all-linear"))
    slot = bank.add("support", new_adapter(model, config, seed=0), trainable=True)
    with bank.use(slot):
        model(...).logits.sum().backward()
    save_adapter(bank.adapter("support"), folder, base_id="org/name", revision=None)

`config`: settings · `adapter`: settings, pairs and rows · `targets`: names → layers · `layer`, `product`, `pairs`, `segments`,
`frozen`: the forward pass and its gradient · `bank`: many adapters, one base · `pissa`, `dora`: variants ·
`token_rows`, `token_layers`: single rows of embedding and head ·
`checkpoint`, `peft_config`, `tensor_file`, `untrusted`: PEFT's files, read strictly · `merge`: the delta added to the weights ·
`compose`: several adapters made into one · `compare`: how far two are apart · `plain_form`, `gguf_file`: what others read.
Every error is an AdapterError.
"""

from budwood.engine.lora.adapter import Adapter, Pair, new_adapter
from budwood.engine.lora.bank import AdapterBank
from budwood.engine.lora.checkpoint import load_adapter, save_adapter
from budwood.engine.lora.config import LoraConfig
from budwood.engine.lora.dora import with_magnitudes
from budwood.engine.lora.merge import merged_weights
from budwood.engine.lora.merge_files import merged_model_files
from budwood.engine.lora.pissa import plain, principal_start
from budwood.engine.lora.segments import Segments
from budwood.engine.lora.targets import layer_ranges, linear_shapes, resolve_pattern, target_paths
from budwood.engine.lora.token_layers import head_parts
from budwood.engine.lora.token_rows import Tables, TokenRows, base_rows, named_ids, token_tables

__all__ = [
    "Adapter",
    "AdapterBank",
    "LoraConfig",
    "Pair",
    "Segments",
    "Tables",
    "TokenRows",
    "base_rows",
    "head_parts",
    "layer_ranges",
    "linear_shapes",
    "load_adapter",
    "merged_model_files",
    "merged_weights",
    "named_ids",
    "new_adapter",
    "plain",
    "principal_start",
    "resolve_pattern",
    "save_adapter",
    "target_paths",
    "token_tables",
    "with_magnitudes",
]
