"""Decoder layers as one autograd node each: what training runs on where it can."""

from budwood.engine.fused.place import fuse, unfuse

__all__ = ["fuse", "unfuse"]
