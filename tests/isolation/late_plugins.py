"""Distributions that import well and fail afterwards: when they are made, asked or used."""

from __future__ import annotations

from dataclasses import dataclass

from tests.isolation.bad_plugins import Bad, entry

TRAIN = ("train", "tiny", "--epochs", "1", "--set", "threads=1", "--set", "workers=0", "--name", "n")
ON_GOOD = (*TRAIN, "--dataset", "goodone")
FAMILY = """
class Family:
    def names(self): return ["resnet-of-mine"]
    def knows(self, name): return name == "resnet-of-mine"
    def create(self, name, num_classes, **more): raise ValueError("no such layer")
"""
EXPORTER = """
class Exporter:
    suffix = ".bin"
    precisions = ("fp32",)
    def export(self, request, out): out.write_bytes(b"model")
    def open(self, file, *, threads=0): return lambda images: 1 / 0
"""
LAZY = """
from collections.abc import Sequence
import numpy as np
from zoo.plugin import Dataset, Split
class Lazy(Sequence):
    def __len__(self): return 40
    def __getitem__(self, index):
        if index < 7: return np.full((8, 8, 3), 6 * index, np.uint8)
        return answer(index)
def plugin(root):
    return Dataset(classes=("a", "b"), splits={"train": Split(images=Lazy(), labels=np.arange(40) % 2)})
"""
AUGMENTATION = """
import numpy as np
class Augmentation:
    def set_random_state(self, random_generator, py_random): pass
    def __call__(self, *, image): return {"image": image}
def plugin(height, width): return Augmentation()
"""


@dataclass(frozen=True, kw_only=True)
class Late:
    """A distribution, what a user does with it, and what the one line says."""

    bad: Bad
    """What `zoo plugin list --check` says of it."""
    command: tuple[str, ...]
    fails: str


def late(name: str, source: str, group: str, command: tuple[str, ...], fails: str, *, checked: str = "") -> Late:
    """Return a distribution whose entry point is its class, or else its function, of the usual name."""
    module = name.replace("-", "_")
    value = {"backbone_families": "Family", "exporters": "Exporter"}.get(group, "plugin")
    points = entry(f"zoo.{group}", module, f"{module}:{value}")
    return Late(
        bad=Bad(name, source, checked, "broken" if checked else "ok", points),
        command=tuple(word.replace("NAME", module) for word in command),
        fails=fails,
    )


def family(name: str, method: str, command: tuple[str, ...], checked: str) -> Late:
    source = f"{FAMILY}{method}\n"
    return late(name, source, "backbone_families", command, checked or "no such layer", checked=checked)


def exporter(name: str, more: str, command: tuple[str, ...], fails: str, checked: str = "") -> Late:
    return late(name, f"{EXPORTER}{more}\n", "exporters", command, fails, checked=checked)


def augmentation(name: str, more: str, fails: str) -> Late:
    return late(name, f"{AUGMENTATION}{more}\n", "augmentations", (*ON_GOOD, "--augment", "NAME"), fails)


def dataset(name: str, answer: str, fails: str) -> Late:
    return late(name, f"{LAZY}def answer(index): {answer}\n", "datasets", (*TRAIN, "--dataset", "NAME"), fails)


MAKE = ("train", "NAME/resnet-of-mine", "--dataset", "goodone", "--epochs", "1", "--no-pretrained")
SHOW = ("show", "exporter", "NAME")
EXPORT = ("export", "RUN", "--format", "NAME")
LATE = (
    family("family-made", "    def __init__(self): raise OSError('no licence file')", MAKE, "no licence file"),
    family("family-exits", "    def __init__(self): raise SystemExit(3)", MAKE, "SystemExit 3"),
    family("family-names", "    def names(self): raise KeyError('index')", MAKE, "KeyError"),
    family("family-nameless", "    def names(self): return None", MAKE, "TypeError"),
    family("family-knows", "    def knows(self, name): return self.index[name]", MAKE, "no attribute 'index'"),
    family("family-creates", "", MAKE, ""),
    late("backbone-made", "def plugin(num_classes): raise ValueError('no such layer')", "backbones",
         ("train", "NAME", "--dataset", "goodone"), "ValueError: no such layer"),
    exporter("exporter-made", "    def __init__(self): raise OSError('no compiler')", SHOW,
             "no compiler", "no compiler"),
    exporter("exporter-bare", "del Exporter.precisions", SHOW,
             "no attribute 'precisions'", "no attribute 'precisions'"),
    exporter("exporter-odd", "    precisions = ('fp33',)", SHOW, "must be a tuple of some of fp32"),
    exporter("exporter-asked", "    def export_options(self): raise KeyError('effort')", SHOW, "KeyError: 'effort'"),
    exporter("exporter-writes", "    def export(self, request, out): raise ValueError('too deep')", EXPORT, "too deep"),
    exporter("exporter-opens", "    def open(self, file, *, threads=0): raise ValueError('no magic')", EXPORT,
             "no magic"),
    augmentation("augmentation-made", "def plugin(height, width): raise OSError('no table')", "OSError: no table"),
    augmentation("augmentation-raises", "    # as follows\nAugmentation.__call__ = lambda self, image: image[99]",
                 "IndexError"),
    augmentation("augmentation-bare", "Augmentation.__call__ = lambda self, image: image", "returned ndarray"),
    augmentation("augmentation-grey", "Augmentation.__call__ = lambda self, image: {'image': image[..., 0]}",
                 "returned uint8 [8, 8]"),
    augmentation("augmentation-stateless", "del Augmentation.set_random_state", "has no set_random_state"),
    dataset("dataset-raises", "raise ConnectionError('no route')", "at image 7 of train: ConnectionError: no route"),
    dataset("dataset-ends", "raise SystemExit(4)", "at image 7 of train"),
    dataset("dataset-odd", "return 'seven.jpg'", "at image 7 of train: it gives a str"),
    late("tracker-made", "def plugin(): raise OSError('no server')", "trackers", (*ON_GOOD, "--tracker", "NAME"),
         "OSError: no server"),
)  # fmt: skip
