"""Frozen linear layers in NF4, 4.127 bits a weight, or int8, 8 bits; byte-identical with bitsandbytes' CPU path.

    summary = quantize_linears(model)                # every linear layer but the head, in place
    weight = dequantize(quantize(weight), torch.float32)

`nf4`, `int8`: the obvious forms, which the others are held to · `kernels`: the fast way back, into one reused buffer ·
`linear`: the layers · `load`: put them in a model · `stream`: while its files are read · `bnb_files`: bitsandbytes' tensors in
a safetensors file. Errors are BaseErrors.
"""

from budwood.engine.quant.int8 import Quantized8, dequantize8, quantize8
from budwood.engine.quant.kernels import Workspace
from budwood.engine.quant.linear import Linear4bit, Linear8bit, QuantizedLinear
from budwood.engine.quant.load import Form, QuantSummary, quantize_linears
from budwood.engine.quant.nf4 import Nested, Quantized, dequantize, quantize

__all__ = [
    "Form",
    "Linear4bit",
    "Linear8bit",
    "Nested",
    "QuantSummary",
    "Quantized",
    "Quantized8",
    "QuantizedLinear",
    "Workspace",
    "dequantize",
    "dequantize8",
    "quantize",
    "quantize8",
    "quantize_linears",
]
