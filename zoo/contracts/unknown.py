"""What makes an image `unknown`: the score of its logits that must be reached, and how it is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UnknownBy = Literal["energy", "max-logit"]


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """The second output of a model that ships: whether an image is like nothing that the model was trained on."""

    by: UnknownBy
    """energy: log-sum-exp of the logits (Liu et al., "Energy-based Out-of-distribution Detection", 2020), where an
    image may have several labels the sum of each one's softplus (Wang et al., "Can multi-label classification networks
    know what they don't know?", 2021); max-logit: the largest logit."""
    threshold: float
    """An image whose score lies below it is unknown; on the scale of the logits that ship."""
