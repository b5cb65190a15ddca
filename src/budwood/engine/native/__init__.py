"""Kernels in C for what torch does badly on a CPU, compiled by this machine's own compiler at first use.

`attention.c`: causal attention over packed rows in bfloat16 · `build`: from a source to functions that can be called, or the
reason why not · `attention`: the same as an autograd function. Nothing here decides when it is used: see `engine/attention.py`.
"""
