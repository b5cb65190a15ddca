"""Decoder layers as one autograd node each: what training runs on where it can."""

from budwood.engine.fused.place import can_compute, can_fuse, fuse, is_llama_kind, selects

__all__ = ["can_compute", "can_fuse", "fuse", "is_llama_kind", "selects"]
