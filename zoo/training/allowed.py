"""What a run's code, weights and data may be licensed as: asked before anything is downloaded, told afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.catalogue.licenses import UNKNOWN, code_license, refuse_license
from zoo.catalogue.made.backbone import BackboneRequest, build_backbone
from zoo.catalogue.made.dataset import is_users_own

if TYPE_CHECKING:
    import torch

    from zoo.catalogue import BackboneChoice, Catalogue
    from zoo.catalogue.installed import Plugin
    from zoo.data.prepared import PreparedData
    from zoo.records.config import TrainConfig


def refuse_before_download(catalogue: Catalogue, config: TrainConfig, choice: BackboneChoice, dataset: Plugin) -> None:
    """Raise LicenseRefused for code, weights or data that `--license-allow` leaves out; nothing is fetched.

    Weights are judged by their `pretrained_cfg`, data by registry.toml: what a dataset plugin itself states is known
    only once it was prepared. The user's own images and weights file are not judged.
    """
    allow = config.license_allow
    if not allow:
        return
    if not is_users_own(dataset):
        entry = catalogue.registry.datasets.get(config.dataset)
        refuse_license(f"dataset {config.dataset!r}", entry.license if entry else "", allow)
    refuse_license(f"the code of model {config.model!r}", code_license(choice.plugin.distribution), allow)
    if config.pretrained and not config.weights:
        request = BackboneRequest(num_classes=2, image_size=config.image_size, options=config.backbone_options)
        backbone, _ = build_backbone(catalogue, choice, request)
        refuse_license(f"the weights of model {config.model!r}", _weights_license(backbone), allow)


def licenses_of(plugin: Plugin, backbone: torch.nn.Module, data: PreparedData, *, pretrained: bool) -> dict[str, str]:
    """Return the licences of code, weights and data; empty weights are those that came from nowhere else."""
    return {
        "code": code_license(plugin.distribution),
        "weights": (_weights_license(backbone) or UNKNOWN) if pretrained else "",
        "data": data.license,
    }


def _weights_license(backbone: torch.nn.Module) -> str:
    return str(getattr(backbone, "pretrained_cfg", {}).get("license") or "")
