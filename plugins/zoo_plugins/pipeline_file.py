"""The file augmentation: any albumentations pipeline, from the YAML or JSON that albumentations itself writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import OptionInvalid, first_line

if TYPE_CHECKING:
    import albumentations as A

ZOO_API = 1
FORMATS = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}
NOT_OURS = frozenset({"Normalize", "ToTensorV2", "ToTensor3D", "ToFloat"})
"""zoo normalises on the device, and in every exported file: twice would be wrong."""


def pipeline_file(height: int, width: int, *, path: str = "") -> A.Compose:
    """Read a pipeline from a file, and resize what comes out of it to cover, cropping the centre.

    Args:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        path: What `albumentations.save` wrote, .json or .yaml; `--augment FILE` is short for it.

    Raises:
        OptionInvalid: no such file, not a pipeline, or one that normalises.
    """
    file = Path(path).expanduser()
    if not path or not file.is_file():
        raise OptionInvalid(
            f"{path or 'no file'}: no such pipeline; write --augment FILE.yaml, as albumentations saves it"
        )
    if file.suffix.lower() not in FORMATS:
        raise OptionInvalid(f"{path} is no pipeline; its name must end in {', '.join(FORMATS)}")
    import albumentations as A

    from zoo_plugins.transforms import ResizeToCover

    try:
        pipeline: Any = A.load(file, data_format=FORMATS[file.suffix.lower()])
    except Exception as exc:  # json, yaml, KeyError, TypeError and albumentations' own
        raise OptionInvalid(
            f"{path} is no pipeline that albumentations {A.__version__} reads: {first_line(exc)}"
        ) from exc
    strays = sorted(NOT_OURS & set(_names(pipeline)))
    if strays:
        raise OptionInvalid(f"{path} holds {', '.join(strays)}; take that out, zoo normalises on the device itself")
    return A.Compose([pipeline, ResizeToCover(height, width)])


def _names(transform: Any) -> list[str]:
    """Return the class names of a transform and all inside it."""
    inside = getattr(transform, "transforms", None) or []
    return [type(transform).__name__, *(name for part in inside for name in _names(part))]
