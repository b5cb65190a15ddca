"""NF4: frozen linear layers at 4.127 bits a weight, byte-identical with bitsandbytes' CPU path.

    summary = quantize_linears(model)                # every linear layer but the head, in place
    weight = dequantize(quantize(weight), torch.float32)

`nf4`: the obvious form, which the others are held to · `kernels`: the fast way back, into one reused buffer · `linear`:
the layer · `load`: put it in a model · `bnb_files`: bitsandbytes' tensors in a safetensors file. Errors are BaseErrors.
"""

from budwood.engine.quant.kernels import Workspace
from budwood.engine.quant.linear import Linear4bit
from budwood.engine.quant.load import QuantSummary, quantize_linears
from budwood.engine.quant.nf4 import Nested, Quantized, dequantize, quantize

__all__ = ["Linear4bit", "Nested", "QuantSummary", "Quantized", "Workspace", "dequantize", "quantize", "quantize_linears"]
