"""What the networks take: the checks that all of them make before they build."""

from __future__ import annotations

InputShape = tuple[int | None, int | None, int]
"""(height, width, channels) of one picture; None: any height or width."""


def check_input(network: str, input_shape: InputShape, classes: int, smallest: int = 1, sized: bool = False) -> None:
    """Refuses what a network cannot be built for, before Keras fails somewhere inside it.

    Args:
        network: its name, for the message.
        input_shape: (height, width, channels).
        classes: how many classes it tells apart.
        smallest: least height and width, in pixels.
        sized: whether height and width have to be known, because a dense layer reads every position.

    Raises:
        ValueError: one of them is out of range.
    """
    if len(input_shape) != 3 or not isinstance(input_shape[2], int) or input_shape[2] < 1:
        raise ValueError(f"{network}: input_shape is {input_shape}, wanted (height, width, channels)")
    for size in input_shape[:2]:
        if size is None and sized:
            raise ValueError(f"{network}: input_shape is {input_shape}, but its dense layers need height and width")
        if size is not None and size < smallest:
            raise ValueError(f"{network}: input_shape is {input_shape}, wanted {smallest} x {smallest} pixels at least")
    if classes < 2:
        raise ValueError(f"{network}: classes is {classes}, wanted 2 at least")
