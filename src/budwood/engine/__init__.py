"""Tensors: bases, adapters, quantisation, packed attention, loss, generation.

Knows no recipe, no store, no user and no HTTP. The parts: `base` (find, identify, load), `packed` and `attention` (rows
without padding), `chat` (messages to tokens, and which of them are supervised), `loss`, `lora/`, `quant/`, `generate/`,
`probes`, `servable` (what a backend can make of an adapter).
"""
