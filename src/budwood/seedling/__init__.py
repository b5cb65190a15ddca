"""The seedling: Budwood's embedded base, a small Llama-architecture language model that ships with the package.

Data only. The folder loads with transformers (`AutoModelForCausalLM.from_pretrained`, `AutoTokenizer.from_pretrained`)
without a network; MODEL_CARD.md says what it was trained on, what it can do and how to make it again.
"""
