"""Budwood: from instruction data to a LoRA or QLoRA adapter that is proven, versioned, served and revertible."""

__version__ = "0.1.0"
