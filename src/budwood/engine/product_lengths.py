"""How many rows products are made with: rounded up, so that few lengths occur.

On a CPU oneDNN compiles code for every shape of a bfloat16 product that it has not met (measured on a Xeon with AMX: 8 ms and
1 MB each; some 40 are new with every length of a pass) and keeps the last 1,024. Packed rows make a new length of nearly
every pass. Rounded up to a multiple of 32 a few dozen occur, for 1 % more rows at 1,500 tokens.
"""

import torch

ROUNDED_TO = 32


def length_multiple(device: torch.device, dtype: torch.dtype) -> int:
    """What to round numbers of rows up to; 1: as they are."""
    return ROUNDED_TO if device.type == "cpu" and dtype == torch.bfloat16 else 1


def rounded_up(count: int, multiple: int) -> int:
    """The smallest multiple that is at least `count`."""
    return count + -count % multiple
