"""How the seedling, Budwood's embedded base, is made: text, tokenizer, network, training, probes."""
