"""What a backbone promises: a module that trains in every part, and means the same after it was saved."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zoo.catalogue import Catalogue
from zoo.catalogue.made.backbone import BackboneRequest, build_backbone
from zoo.contracts.preprocess import Preprocess
from zoo.testing.contract import Contract, changes
from zoo.testing.fresh import fresh, watching_writes

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from zoo.catalogue.installed import Plugin

NUM_CLASSES = 7
TOLERANCE = 1e-4
"""Of a logit, between two ways of computing it in fp32."""


class BackboneContract(Contract):
    """The promises of a backbone, also of one in a family (`name = "timm/resnet18"`)."""

    kind = "backbone"

    @pytest.fixture
    def image_size(self) -> int:
        """Pixels of the square input to test with."""
        return 64

    @pytest.fixture
    def plugin(self, catalogue: Catalogue) -> Plugin:
        """The entry point of the backbone, or of its family."""
        return catalogue.backbone(self.name).plugin

    @pytest.fixture
    def build(self, options: dict[str, Any], image_size: int, catalogue: Catalogue) -> Callable[..., torch.nn.Module]:
        """Build one with random weights from a seed: `build(num_classes, seed)`."""
        return lambda num_classes=NUM_CLASSES, seed=0: build(
            catalogue, self.name, num_classes, options, image_size, seed=seed
        )

    @pytest.fixture
    def backbone(self, build: Callable[..., torch.nn.Module]) -> torch.nn.Module:
        """One for NUM_CLASSES classes, in eval mode."""
        return build().eval()

    @pytest.fixture
    def images(self, image_size: int) -> torch.Tensor:
        """float32 [5, 3, H, W]."""
        return noise(image_size)

    def test_it_maps_any_batch_to_logits(self, backbone: torch.nn.Module, images: torch.Tensor) -> None:
        """float32 [N, 3, H, W] to finite float32 [N, num_classes], for any N."""
        for count in (1, 2, 5):
            logits = answer(backbone, images[:count])
            got = (tuple(logits.shape), str(logits.dtype))
            assert got == ((count, NUM_CLASSES), "torch.float32"), f"{count} images give {got}"
            assert bool(logits.isfinite().all()), "logits are not finite"

    def test_any_number_of_classes_can_be_asked_for(
        self, build: Callable[..., torch.nn.Module], images: torch.Tensor
    ) -> None:
        """The head is as wide as asked."""
        for count in (2, 3):
            assert tuple(answer(build(count).eval(), images).shape) == (len(images), count)

    def test_logits_are_not_probabilities(self, backbone: torch.nn.Module, images: torch.Tensor) -> None:
        """Softmax is zoo's: a second one would flatten every answer."""
        logits = answer(backbone, images)
        sums = logits.sum(1)
        normalised = bool((logits >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())
        log_normalised = bool((logits.exp().sum(1) - 1).abs().max() < 1e-3)
        assert not normalised, "it ends in a softmax; return logits"
        assert not bool(((logits > 0) & (logits < 1)).all()), "it ends in a sigmoid; return logits"
        assert not log_normalised, "it ends in a log-softmax; return logits"

    def test_images_of_a_batch_do_not_mix(self, backbone: torch.nn.Module, images: torch.Tensor) -> None:
        """In eval mode each is answered by itself."""
        together, alone = answer(backbone, images), answer(backbone, images[:1])
        assert close(together[:1], alone), "an image's logits depend on its batch"

    def test_eval_mode_is_deterministic(self, backbone: torch.nn.Module, images: torch.Tensor) -> None:
        """No dropout, no statistics that move."""
        assert bool((answer(backbone, images) == answer(backbone, images)).all()), "two passes give two answers"

    def test_the_images_are_left_as_they_were(self, backbone: torch.nn.Module, images: torch.Tensor) -> None:
        """No operation in place on the input."""
        before = images.clone()
        answer(backbone, images)
        assert bool((images == before).all()), "it changed its input"

    def test_memory_layout_does_not_matter(self, backbone: torch.nn.Module, images: torch.Tensor) -> None:
        """Training uses channels last."""
        import torch

        last = images.contiguous(memory_format=torch.channels_last)
        assert close(answer(backbone, last), answer(backbone, images)), "channels-last images give other logits"

    def test_gradients_reach_every_parameter(self, build: Callable[..., torch.nn.Module], images: torch.Tensor) -> None:
        """What gets none never learns. Zeros that some start from are shaken first."""
        import torch

        backbone = build().train()
        assert any(p.requires_grad for p in backbone.parameters()), "nothing in it can be trained"
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        loss = torch.nn.functional.cross_entropy(backbone(images), torch.arange(len(images)) % NUM_CLASSES)
        assert loss.requires_grad, "its logits carry no gradient"
        loss.backward()  # type: ignore[no-untyped-call]
        silent = [n for n, p in backbone.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
        assert not silent, f"no gradient for {', '.join(silent[:3])}"

    def test_the_seed_decides_the_weights(self, build: Callable[..., torch.nn.Module]) -> None:
        """torch's global one, which training sets."""
        first, second = build().state_dict(), build().state_dict()
        assert first.keys() == second.keys()
        differing = [name for name in first if not bool((first[name] == second[name]).all())]
        assert not differing, f"{differing[0]} differs under one seed; draw weights from torch's generator"
        other = build(seed=1).state_dict()
        assert any(not bool((first[name] == other[name]).all()) for name in first), (
            "two seeds give the same weights; leave the seed to zoo"
        )

    def test_its_weights_mean_the_same_in_a_new_process(
        self, backbone: torch.nn.Module, images: torch.Tensor, image_size: int, options: dict[str, Any], tmp_path: Path
    ) -> None:
        """Built, loaded from safetensors without a network, it answers as before; says nothing, writes nothing."""
        from zoo.disk.weights import save_weights

        save_weights(tmp_path / "weights.safetensors", backbone.state_dict())
        arguments = (self.name, options, image_size, str(tmp_path / "weights.safetensors"))
        found = fresh(reloaded, *arguments, folder=tmp_path, offline=True)
        difference = np.abs(np.array(found.result["logits"]) - answer(backbone, images).numpy()).max()
        assert difference <= TOLERANCE, f"after saving and loading, logits differ by {difference:.3g}"
        assert not found.stdout, f"it printed {found.stdout[:80]!r} on stdout"
        assert not found.result["written"], f"it wrote {found.result['written'][0]}"

    def test_it_survives_copying_and_pickling(self, backbone: torch.nn.Module, images: torch.Tensor) -> None:
        """The moving average is a copy; distributed training sends it to other processes."""
        for other in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
            assert close(answer(other, images), answer(backbone, images))

    def test_it_tells_how_it_likes_its_pixels(self, backbone: torch.nn.Module) -> None:
        """`pretrained_cfg`, as timm has it: size, mean and std; zoo makes its Preprocess from that."""
        cfg: Any = getattr(backbone, "pretrained_cfg", None)
        assert isinstance(cfg, Mapping), "it has no `pretrained_cfg`; a dict is enough"
        preprocess = Preprocess.from_pretrained_cfg(cfg)
        assert all(isinstance(side, int) and side > 0 for side in preprocess.size), f"input_size: {preprocess.size}"
        for values in (preprocess.mean, preprocess.std):
            assert len(values) == 3, f"mean and std need a number for each of R, G, B, got {values}"
            assert all(0 <= value <= 1 for value in values), f"mean and std lie on the scale 0..1, got {values}"
        assert all(preprocess.std), "std must not be 0"

    def test_it_can_be_exported(self, backbone: torch.nn.Module, images: torch.Tensor) -> None:
        """As one graph whose batch is free: the first step of every format."""
        import torch

        batch = {0: torch.export.Dim.DYNAMIC}
        exported = torch.export.export(backbone, (images[:3],), dynamic_shapes=(batch,)).module()
        with torch.inference_mode():
            assert close(exported(images), answer(backbone, images)), "its graph answers otherwise"

    def test_using_it_leaves_the_process_as_it_was(self, backbone: torch.nn.Module, images: torch.Tensor) -> None:
        """In eval mode no random number is drawn."""
        found = changes(lambda: answer(backbone, images))
        assert not found, f"it {', '.join(found)}"


def build(
    catalogue: Catalogue, name: str, num_classes: int, options: dict[str, Any], image_size: int, *, seed: int = 0
) -> torch.nn.Module:
    """Build a backbone with random weights from a seed."""
    import torch

    torch.manual_seed(seed)
    request = BackboneRequest(num_classes=num_classes, image_size=image_size, options=options)
    return build_backbone(catalogue, catalogue.backbone(name), request)[0]


def noise(image_size: int) -> torch.Tensor:
    """Return float32 [5, 3, image_size, image_size]."""
    import torch

    return torch.randn(5, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))


def answer(backbone: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the logits, without gradients."""
    import torch

    with torch.inference_mode():
        logits: torch.Tensor = backbone(images)
        return logits


def close(some: torch.Tensor, others: torch.Tensor) -> bool:
    """Tell whether logits agree as far as fp32 does."""
    import torch

    return torch.allclose(some, others, rtol=1e-3, atol=TOLERANCE)


def reloaded(name: str, options: dict[str, Any], image_size: int, weights: str) -> dict[str, Any]:
    """Return the logits of a backbone with weights from a file; runs in a new process."""
    from zoo.disk.weights import load_weights

    catalogue = Catalogue.read()
    build(catalogue, name, NUM_CLASSES, options, image_size)  # libraries that it imports may keep files of their own
    with watching_writes() as written:
        backbone = build(catalogue, name, NUM_CLASSES, options, image_size).eval()
    backbone.load_state_dict(load_weights(Path(weights)))
    return {"logits": answer(backbone, noise(image_size)).tolist(), "written": written}
