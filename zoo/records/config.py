"""What the user asked for: frozen, checked, each value with the layer it came from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from zoo.data.folds import Fold
from zoo.errors import OptionInvalid

Loss = Literal["auto", "cross_entropy", "focal", "bce"]
ClipMode = Literal["norm", "value", "agc"]

BALANCED = "balanced"
"""What `class_weights` says for weights from the training labels; anything else is a file."""

USUAL_EPOCHS = 10

RESUME_MAY_CHANGE = frozenset(
    {"epochs", "workers", "patience", "cache_limit", "checkpoint_minutes", "checkpoint_steps"}
)
"""Options that a resumed run may take anew; any other would make it a different run."""


class TrainConfig(BaseModel):
    """Every option of `zoo train`; a recipe may set any but the model and the dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str
    dataset: str
    dataset_options: dict[str, Any] = {}
    backbone_options: dict[str, Any] = {}
    augment: str = "standard"
    augment_options: dict[str, Any] = {}
    image_size: Annotated[int, Field(ge=0, le=4096)] = 0
    """Pixels of the square input; 0 means the backbone's own."""
    image_size_start: Annotated[int, Field(ge=0, le=4096)] = 0
    """Pixels in the first epoch, from which they grow to the input's, in steps of 32; 0 means that all are full."""
    image_size_growth: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of the epochs in which they grow."""
    pretrained: bool = True
    weights: str = ""
    """A local weights file, instead of the hub's."""
    parent: str = ""
    """A finished run, by name or path, that this one goes on from; its options are the defaults. `--from`."""
    qat: bool = False
    """Compute with the rounding of int8, so that the weights learn to bear it; goes on from a `parent`."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = USUAL_EPOCHS
    """Passes over the training images; auto: 10, and more where so few images would give too few steps."""
    batch_size: Annotated[int, Field(ge=2, le=65_536)] | Literal["auto", "by-images"] = 64
    """Images a batch; auto: the most that fit into memory, and leave an epoch some steps; by-images: a sixteenth of
    the training images, 16 to 64, on every machine the same."""
    lr: Annotated[float, Field(gt=0, le=100)] = 5e-4
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.05
    """Of weights; norms and biases are spared."""
    optimizer: str = "adamw"
    """Any that timm's factory knows: adamw, sgd (with Nesterov's momentum; the plain one is called momentum), adam,
    rmsprop, lion, lamb, muon and many more."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of optimizers that have one, such as sgd and rmsprop."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = ()
    """Of optimizers that have some, such as adamw, for example 0.9,0.95; empty leaves them to the optimizer."""
    opt_eps: Annotated[float, Field(ge=0, le=1)] = 0.0
    """What optimizers such as adamw add where they divide; 0 leaves it to the optimizer."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """What the learning rate is multiplied by with each layer below the classifier; 1 means that all have the same."""
    schedule: Literal["cosine", "step", "plateau", "onecycle", "constant"] = "cosine"
    """How the learning rate goes on after the warm-up; onecycle has its own, over 30 % of the steps."""
    decay_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs between two steps of schedule step (0: a third of all), or without a better validation figure before
    schedule plateau lowers the rate (0: a tenth of all, at least 2)."""
    decay_rate: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What schedules step and plateau multiply the rate by."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    """Epochs in which the learning rate rises from a hundredth to its peak, half of the run at most."""
    head: Literal["auto", "random", "probe"] = "auto"
    """What the classifier is before the first epoch; probe: what `probe` would fit to the backbone's features, measured
    as epoch 0; auto: that, where the weights are pretrained and the classifier is a linear layer, else random."""
    batchnorm: Literal["batch", "frozen"] = "batch"
    """batch: norms see each batch's statistics while training, and those that ship are estimated anew from training
    images before each validation; frozen: all keep the statistics that the weights came with. Random weights came with
    none: theirs follow the batches."""
    freeze: Literal["", "backbone"] = ""
    """"backbone": all but the classifier stand still, the statistics of norms too."""
    unfreeze_epoch: Annotated[int, Field(ge=0)] = 0
    """Epochs after which what was frozen moves; 0 means never."""
    probe: bool = False
    """Fit a linear classifier, once, to features of the unchanged backbone: a baseline without training."""
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the features dropped before the classifier, by backbones that can; 0 leaves it to the backbone."""
    drop_path_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the residual branches dropped (stochastic depth), by backbones that can; 0 leaves it to the backbone."""
    loss: Loss = "auto"
    """auto: cross_entropy where an image has one label, bce where it has several. focal and bce see each class as
    a question of its own."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Towards all classes alike; of a multi-label dataset towards 0.5."""
    class_weights: str = ""
    """What classes weigh in the training loss: "balanced", or a TOML, JSON or CSV file; empty means the same."""
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Alpha of the Beta distribution that two images are blended by; 0 means never."""
    cutmix: Annotated[float, Field(ge=0, le=100)] = 0.0
    """The same, for a rectangle of one image put into the other; with both, each batch gets one of the two."""
    mix_prob: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the batches that are mixed, where mixup or cutmix is on."""
    teacher: str = ""
    """A finished run of the same classes, by name or path, whose answers are learned too; empty means none."""
    distill_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Of the teacher's answers in the loss; the rest is the labels'."""
    distill_temperature: Annotated[float, Field(gt=0, le=100)] = 2.0
    """What the logits of both are divided by: the higher, the more counts what the teacher makes of wrong classes."""
    clip_grad: Annotated[float, Field(ge=0)] = 0.0
    """Largest gradient, as `clip_mode` measures it; 0 means no clipping."""
    clip_mode: ClipMode = "norm"
    """What is limited: the norm of the whole gradient, each value of it, or (agc) its norm over the weights' own."""
    accumulate: Annotated[int, Field(ge=1, le=65_536)] = 1
    """Batches whose gradients are averaged for one step of the optimizer."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Of the weights' moving average, as far as the run has the steps for it: it reaches back over a tenth of them at
    most; 0 means none."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a better validation figure before training stops; 0 means never."""
    monitor: str = ""
    """The validation figure that chooses the best epoch: loss, top1, top5, macro_f1, macro_recall, map, exact and so
    on; empty means top1, and map where an image has several labels."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 5.0
    """Between two checkpoints, at most; one is written after each epoch in any case. 0 means no others."""
    checkpoint_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of an epoch between two checkpoints; 0 means that only time counts."""
    folds: Annotated[int, Field(ge=0, le=100)] = 0
    """Parts that the images of train and val are dealt into, for cross-validation; 0 means none."""
    fold: Annotated[int, Field(ge=0, le=100)] = 0
    """Which of them the run validates on, counted from 1; 0 means one run for each."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    """Which images an epoch shows: each once, or drawn so that all classes come as often."""
    cache: Literal["auto", "off", "ram", "disk"] = "auto"
    """Where decoded images are kept, scaled down to a little more than the input; auto: on disk, where all fit."""
    cache_limit: Annotated[float, Field(ge=0)] = 20.0
    """Gigabytes (1e9 bytes) that the caches of all runs may take together."""
    workers: Annotated[int, Field(ge=-1, le=256)] = -1
    """Threads that decode and augment; -1 chooses from the machine, 0 works in the training thread."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Of PyTorch on the CPU; 0 leaves it to PyTorch. On a busy machine one fewer than the processors is faster."""
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    layout: Literal["auto", "nchw", "nhwc"] = "auto"
    fsdp: bool = False
    """Divide weights, gradients and the optimizer's moments among several processes; for models that do not fit."""
    sync_batchnorm: bool = False
    """Let batch norms see the batches of all processes; for small batches on several GPUs."""
    compile: bool = False
    """Compile the forward and backward pass of training with torch.compile: minutes at first, steps faster after."""
    trackers: tuple[str, ...] = ()
    """Who hears of the run while it trains."""
    tracker_options: dict[str, Any] = {}
    """KEY for the only tracker, NAME.KEY among several."""
    license_allow: tuple[str, ...] = ()
    """Licences (SPDX) that code, weights and data may have; none means any."""

    @property
    def epoch_count(self) -> int:
        """The epochs as a number: the usual one as long as `auto` has not come to another."""
        return USUAL_EPOCHS if self.epochs == "auto" else self.epochs

    @property
    def begins_trained(self) -> bool:
        """Whether the backbone's weights have learned something before the run."""
        return self.pretrained or bool(self.weights) or bool(self.parent)

    @property
    def all_backbone_options(self) -> dict[str, Any]:
        """The backbone's options, with the rates of dropping that have a name of their own here."""
        rates = {"drop_rate": self.drop_rate, "drop_path_rate": self.drop_path_rate}
        return {**{name: rate for name, rate in rates.items() if rate}, **self.backbone_options}

    @property
    def chosen_fold(self) -> Fold | None:
        """The fold that a run trains, None if its splits are the usual ones.

        Raises:
            OptionInvalid: folds, but not which.
        """
        if not self.folds:
            return None
        if not self.fold:
            raise OptionInvalid(
                f"one run trains one of {self.folds} folds; say which with fold = 1 and so on, or leave folds out"
            )
        return Fold(number=self.fold, of=self.folds)

    @field_validator("folds")
    @classmethod
    def _several(cls, value: int) -> int:
        if value == 1:
            raise PydanticCustomError("folds", "write 2 to 100, or 0 for none")
        return value

    @field_validator("fold")
    @classmethod
    def _one_of_them(cls, value: int, info: ValidationInfo) -> int:
        folds = info.data.get("folds", value)
        if value > folds:
            told = f"there are only {folds}, counted from 1" if folds else "say of how many with --folds N"
            raise PydanticCustomError("fold", "{told}", {"told": told})
        return value

    @field_validator("betas", "trackers", "license_allow", mode="before")
    @classmethod
    def _split_text(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
