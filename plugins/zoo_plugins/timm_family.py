"""The timm family: every architecture of timm by name, with weights from a cache, the hub or the user."""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import logging
import warnings
from typing import TYPE_CHECKING, Any

from zoo.errors import CheckpointInvalid, EnvironmentBroken, OptionInvalid, UnknownName, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from zoo_plugins.timm_names import TimmNames

ZOO_API = 1
OURS = {
    "in_chans": "images are always RGB",
    "img_size": "write --image-size",
    "input_size": "write --image-size",
    "checkpoint_path": "write --weights FILE",
    "pretrained_cfg": "write --weights FILE",
    "pretrained_cfg_overlay": "write --weights FILE",
    "features_only": "a classifier needs its head",
}
"""Arguments of timm that are no options, and what to do instead."""


class TimmFamily:
    """Every architecture of timm, under timm's own name; `NAME.TAG` picks one of its pretrained weights."""

    @functools.cached_property
    def _names(self) -> TimmNames:
        from zoo_plugins.timm_names import read_names

        return read_names()

    def names(self) -> Sequence[str]:
        """Return every architecture's name in timm's order; imports neither timm nor torch."""
        return self._names.architectures

    def knows(self, name: str) -> bool:
        """Tell whether timm has this architecture, or had it under this name; a tag is checked by `create`."""
        return name.partition(".")[0] in self._names.architectures or name in self._names.renamed

    def check(self, name: str, options: Mapping[str, Any]) -> None:
        """Refuse what `create` would refuse of a name and its options, as far as timm's source tells.

        Raises:
            UnknownName, OptionInvalid: as for `create`.
        """
        _checked(self._current(name), options)

    def create(
        self,
        name: str,
        num_classes: int,
        *,
        pretrained: bool = True,
        weights: Mapping[str, torch.Tensor] | None = None,
        image_size: int | None = None,
        **options: Any,
    ) -> torch.nn.Module:
        """Return float [N, 3, H, W] to logits [N, num_classes]; its `pretrained_cfg` is a plain dict.

        Args:
            name: An architecture, perhaps with a tag.
            num_classes: Width of the head.
            pretrained: Load timm's weights, from a cache or the hub; `weights` go before.
            weights: A state dict; a head of another width in it is left out.
            image_size: Built into models with a fixed input size; the others take any.
            options: Arguments of timm's model; text is read as a Python literal where it is one.

        Raises:
            UnknownName: timm has no such architecture or tag.
            OptionInvalid: an option that this model does not have, or a size that it cannot take.
            CheckpointInvalid: the weights are not for this model.
            WeightsUnavailable: pretrained weights are out of reach.
        """
        name = self._current(name)
        if pretrained and weights is None:
            from zoo_plugins.hub import refuse_early

            refuse_early(name)
        with _quiet():
            cfg = _pretrained_cfg(name)
            arguments = {"num_classes": num_classes, **_size(cfg, image_size), **_checked(name, options)}
            build = functools.partial(_build, name, cfg, arguments)
            if weights is not None:
                model = _with_given(build, weights, name, cfg, num_classes)
            elif pretrained:
                model = _with_pretrained(build, name, cfg)
            else:
                model = build()
        _tell(model, cfg)
        return model

    def _current(self, name: str) -> str:
        """Return today's name for an old one."""
        if not self.knows(name):
            known = self._names.architectures
            if not known:
                raise EnvironmentBroken(f"model {name!r} needs timm, which is not installed; run `pip install timm`")
            raise UnknownName(f"timm has no model {name!r}; {_did_you_mean(name.partition('.')[0], known)}")
        current = self._names.renamed.get(name, name)
        if current is None:
            raise UnknownName(f"timm has removed model {name!r}; choose another or install the timm that had it")
        return current


def _tell(model: Any, cfg: dict[str, Any]) -> None:
    """Put the plain facts in the place of timm's, which keep the state dict or a path on this machine."""
    model.pretrained_cfg = model.default_cfg = cfg


def _build(name: str, cfg: Mapping[str, Any], arguments: Mapping[str, Any], **load: Any) -> torch.nn.Module:
    """Create the model; what it says about its arguments becomes one line."""
    import timm

    try:
        model: torch.nn.Module = timm.create_model(name, **arguments, **load)
    except Exception as exc:
        if load:
            _build(name, cfg, arguments)  # raises if the arguments are to blame, and not the weights
            raise
        asked = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key != "num_classes")
        if not asked:
            raise
        native = f"; its own size is {' x '.join(map(str, cfg['input_size'][1:]))}" if "img_size" in arguments else ""
        raise OptionInvalid(f"{name} cannot be built with {asked}: {first_line(exc)}{native}") from exc
    return model


def _with_given(
    build: functools.partial[torch.nn.Module],
    weights: Mapping[str, torch.Tensor],
    name: str,
    cfg: Mapping[str, Any],
    num_classes: int,
) -> torch.nn.Module:
    from zoo_plugins.timm_weights import load_given

    layers = cfg.get("classifier") or ()
    layers = (layers,) if isinstance(layers, str) else layers
    head = frozenset(f"{layer}.{part}" for layer in layers for part in ("weight", "bias"))
    return load_given(build, weights, model=name, num_classes=num_classes, head=head)


def _with_pretrained(build: functools.partial[torch.nn.Module], name: str, cfg: Mapping[str, Any]) -> torch.nn.Module:
    from zoo_plugins.hub import weights_on_disk

    overlay = weights_on_disk(name, cfg)
    try:
        return build(pretrained=True, pretrained_cfg_overlay=overlay)
    except OptionInvalid:
        raise
    except Exception as exc:  # safetensors, zip, pickle, shapes: each has its own root of errors
        mend = (
            "leave --image-size out" if "size mismatch" in str(exc) else f"delete {overlay['file']} to fetch it again"
        )
        reason = first_line(exc)
        raise CheckpointInvalid(
            f"the pretrained weights of {name} cannot be loaded: {reason}; {mend}, or go on with --no-pretrained"
        ) from exc


def _pretrained_cfg(name: str) -> dict[str, Any]:
    """Return timm's facts about these weights.

    Raises:
        UnknownName: no such tag; the close ones are named.
    """
    from timm.models import PretrainedCfg, get_arch_pretrained_cfgs, get_pretrained_cfg

    architecture, _, tag = name.partition(".")
    tags = [known.partition(".")[2] for known in get_arch_pretrained_cfgs(architecture)]
    if tag and tag not in tags:
        raise UnknownName(f"timm has no weights {tag!r} for {architecture}; {_did_you_mean(tag, tags)}")
    found: Any = get_pretrained_cfg(name) or PretrainedCfg(architecture=architecture)
    return {"license": None, **found.to_dict()}


def _size(cfg: Mapping[str, Any], image_size: int | None) -> dict[str, int]:
    native = tuple(cfg["input_size"][1:])
    if not image_size or not cfg.get("fixed_input_size") or native == (image_size, image_size):
        return {}
    return {"img_size": image_size}


def _checked(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse what is decided elsewhere, and read text from the command line as the value it spells."""
    for option in options:
        if option in OURS:
            raise OptionInvalid(f"{option} is no option of {name}: {OURS[option]}")
    return {option: _literal(value) for option, value in options.items()}


def _literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(value)
    return value


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(known)}" if 0 < len(known) <= 20 else "`zoo list models` shows what there is"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what timm and the hub's client log and warn of away from the user; failures are told as errors.

    Raises:
        EnvironmentBroken: timm cannot be imported.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import huggingface_hub  # noqa: F401 (both set up their loggers when imported, so that comes first)
            import timm  # noqa: F401
        except Exception as exc:  # a torchvision built for another torch raises RuntimeError
            raise EnvironmentBroken(
                f"timm cannot be imported: {first_line(exc)}; reinstall torch, torchvision and timm from one index"
            ) from exc
        loggers = [logging.getLogger(name) for name in ("timm", "huggingface_hub")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
