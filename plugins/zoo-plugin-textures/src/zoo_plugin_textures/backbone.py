"""The texture-net backbone: a few convolutions, enough for textures, trained from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.plugin import OptionInvalid

if TYPE_CHECKING:
    import torch

ZOO_API = 1
DEEPEST = 6


def texture_net(num_classes: int, *, width: int = 16, depth: int = 3) -> torch.nn.Module:
    """Return a new network for images of 16 x 16 pixels or more.

    Args:
        num_classes: Width of the last layer.
        width: Channels of the first block; each further block has twice as many.
        depth: Number of blocks, 1 to 6; each halves height and width.

    Raises:
        OptionInvalid: an option is out of range.
    """
    if width < 1:
        raise OptionInvalid(f"width={width} must be 1 or more")
    if not 1 <= depth <= DEEPEST:
        raise OptionInvalid(f"depth={depth} must lie between 1 and {DEEPEST}")
    # The class lives in a module that imports torch: pickle finds it there, and `zoo list` never has to.
    from zoo_plugin_textures.net import TextureNet

    return TextureNet(num_classes, width, depth)
