"""Reading and writing weights: safetensors, or a foreign .pt/.pth with nothing but tensors; no pickle is ever run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.disk.files import write_atomic
from zoo.errors import CheckpointInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

FOREIGN_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where other trainers keep the weights inside their checkpoints, the best first."""


def save_weights(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Write a state dict as safetensors, atomically."""
    from safetensors.torch import save

    payload = save(_apart(weights))
    write_atomic(path, lambda file: file.write(payload))


def _apart(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give each tensor memory of its own, as the format demands; layers that share weights are written with each."""
    apart, places = {}, set()
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in places else tensor
        places.add(place)
    return apart


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from .safetensors, or from a .pt/.pth file that holds only tensors.

    Raises:
        CheckpointInvalid: missing, damaged, or a file that would have to run code to be read.
    """
    if not path.is_file():
        raise CheckpointInvalid(f"{path}: no such weights file; check the path")
    if path.read_bytes()[:1024].startswith(b"version https://git-lfs"):
        raise CheckpointInvalid(f"{path} is a git-lfs pointer, not weights; run `git lfs pull`")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except (SafetensorError, OSError, ValueError) as exc:
            raise CheckpointInvalid(f"{path} is not a whole safetensors file ({exc}); fetch it again") from exc
    return _tensors(load_checkpoint(path), path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a torch checkpoint that holds nothing but tensors and plain values.

    Raises:
        CheckpointInvalid: missing, damaged, or a pickle that names code.
    """
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise CheckpointInvalid(f"{path}: no such checkpoint; check the path") from exc
    except Exception as exc:  # torch.load raises nine different types for damaged files
        reason = (
            "it would have to run code to be read" if "weights_only" in str(exc) else "it is damaged or of another kind"
        )
        raise CheckpointInvalid(
            f"{path} is not a checkpoint that can be loaded safely: {reason}; use .safetensors"
        ) from exc
    if not isinstance(loaded, dict):
        raise CheckpointInvalid(f"{path} holds a {type(loaded).__name__}, not named weights; use a state dict")
    return loaded


def _tensors(loaded: dict[str, Any], path: Path) -> dict[str, torch.Tensor]:
    import torch

    found = next((loaded[key] for key in FOREIGN_KEYS if isinstance(loaded.get(key), dict)), loaded)
    weights = {
        str(name).removeprefix("module."): value for name, value in found.items() if isinstance(value, torch.Tensor)
    }
    if not weights:
        raise CheckpointInvalid(f"{path} holds no weights; use a state dict or a .safetensors file")
    return weights
