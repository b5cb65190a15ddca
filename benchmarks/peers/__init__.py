"""Parts of train_vs_peers.py: shapes and rows, one module a side, the products alone, the table."""
