"""A model's decoder layers, and modules that stand in their place."""

from typing import Any

from torch import nn

from budwood.errors import BaseError


class StandIn(nn.Module):
    """Stands in the place of a decoder layer: its children are that layer's, so module paths stay what they were."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        for name, child in layer.named_children():
            self.add_module(name, child)
        self._held = (layer,)  # not a child: its own would appear twice

    @property
    def original(self) -> nn.Module:
        return self._held[0]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # What a model asks its layers for beside calling them, such as the kind of their attention.
            if "_held" in self.__dict__:
                return getattr(self.original, name)
            raise


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Find the list of a model's layers, under whatever name its family has for it.

    Raises:
        BaseError: there is none of as many modules as the config says.
    """
    config: Any = model.config
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers:
            return module
    raise BaseError(
        f"This {config.model_type} base has no list of {config.num_hidden_layers} layers.", mend="Use a supported family."
    )


def put_back(model: nn.Module) -> None:
    """Put a model's own layers back where others stand in."""
    layers = decoder_layers(model)
    for index, layer in enumerate(layers):
        own = layer
        while isinstance(own, StandIn):
            own = own.original
        layers[index] = own
