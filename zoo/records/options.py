"""The options of training, a row each: `TrainConfig`, the flags, their help and a table in the docs come from here."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal

from zoo.records.rows import Group, Range, Told, rows_of

if TYPE_CHECKING:
    from zoo.records.rows import Option

DATA, MODEL, OPTIMISATION, AUGMENTATION, MACHINE, OUTPUT = Group
Loss = Literal["auto", "cross_entropy", "focal", "bce"]
ClipMode = Literal["norm", "value", "agc"]
USUAL_EPOCHS = 10
BALANCED = "balanced"
"""What `class_weights` says for weights from the training labels; anything else is a file."""


class Options:
    """Every option of `zoo train`; a recipe may set any but the model and the dataset.

    A row is a name, a type with its range, a line for the help, a default; what docs/train.md tells beyond follows it.
    """

    model: Annotated[str, Told(MODEL, "A model: `zoo list models`.", names="model")]

    dataset: Annotated[str, Told(DATA, "A dataset's name, or a folder with a sub-folder a class.", names="dataset")]
    dataset_options: Annotated[
        dict[str, Any], Told(DATA, "An option of the dataset's own: `zoo show dataset NAME`; may be repeated.")
    ] = {}
    folds: Annotated[
        int,
        Range(ge=0, le=100),
        Told(DATA, "Cross-validate: a run for each of N parts of train and val; 0 means none."),
    ] = 0
    fold: Annotated[
        int, Range(ge=0, le=100), Told(DATA, "Train one of the folds alone, counted from 1; 0 means one run for each.")
    ] = 0
    sampler: Annotated[
        Literal["shuffle", "balanced"],
        Told(DATA, "Which images an epoch shows: each once, or drawn so that all classes come as often."),
    ] = "shuffle"
    class_weights: Annotated[
        str,
        Told(
            DATA,
            "Weigh classes in the training loss, by rarity or as a TOML, JSON or CSV file says.",
            metavar="balanced|FILE",
        ),
    ] = ""
    """Empty means that all weigh the same."""
    seed: Annotated[
        int,
        Range(ge=0, lt=2**32),
        Told(DATA, "What is drawn at random follows from it: weights, order, augmentation, splits."),
    ] = 0
    license_allow: Annotated[
        tuple[str, ...], Told(DATA, "Licences (SPDX) that code, weights and data may have, for example Apache-2.0,MIT.")
    ] = ()
    """None means any."""

    backbone_options: Annotated[
        dict[str, Any], Told(MODEL, "An option of the backbone's own, such as timm's; may be repeated.")
    ] = {}
    image_size: Annotated[
        int, Range(ge=0, le=4096), Told(MODEL, "Pixels of the square input; 0 means the backbone's own.")
    ] = 0
    image_size_start: Annotated[
        int,
        Range(ge=0, le=4096),
        Told(MODEL, "Pixels in the first epoch, from which they grow to the input's; 0 means that all are full."),
    ] = 0
    """They grow in steps of 32."""
    image_size_growth: Annotated[
        float, Range(gt=0, le=1), Told(MODEL, "Share of the epochs in which the images grow.")
    ] = 0.75
    pretrained: Annotated[bool, Told(MODEL, "Start from random weights.")] = True
    """The flag turns it off; on takes the weights that the model has at the hub."""
    weights: Annotated[str, Told(MODEL, "Start from a local weights file, instead of the hub's.", metavar="FILE")] = ""
    parent: Annotated[
        str, Told(MODEL, "Go on from a finished run's weights and options, in a new run.", flag="--from", metavar="RUN")
    ] = ""
    """By name or path; its options are the defaults."""
    qat: Annotated[bool, Told(MODEL, "Learn to bear the rounding of int8; with --from RUN, 2 epochs.")] = False
    head: Annotated[
        Literal["auto", "random", "probe"],
        Told(MODEL, "What the classifier is before the first epoch; auto: fitted, where the weights are pretrained."),
    ] = "auto"
    """probe: what `probe` would fit to the backbone's features, measured as epoch 0; auto: that, where the weights are
    pretrained and the classifier is a linear layer, else random."""
    batchnorm: Annotated[
        Literal["batch", "frozen"],
        Told(MODEL, "Which statistics batch norms use: each batch's, or those that the weights came with."),
    ] = "batch"
    """batch: those that ship are estimated anew from training images before each validation; frozen: random weights
    came with none, theirs follow the batches."""
    freeze: Annotated[Literal["", "backbone"], Told(MODEL, "backbone: train only the classifier.")] = ""
    """The statistics of norms stand still too."""
    unfreeze_epoch: Annotated[
        int, Range(ge=0), Told(MODEL, "Epochs after which what was frozen trains too; 0 means never.")
    ] = 0
    probe: Annotated[bool, Told(MODEL, "Fit a linear classifier to features computed once: a baseline in minutes.")] = (
        False
    )
    drop_rate: Annotated[float, Range(ge=0, lt=1), Told(MODEL, "Dropout before the classifier.")] = 0.0
    """By backbones that can; 0 leaves it to the backbone."""
    drop_path_rate: Annotated[
        float, Range(ge=0, lt=1), Told(MODEL, "Share of the residual branches dropped: stochastic depth.")
    ] = 0.0
    """By backbones that can; 0 leaves it to the backbone."""
    teacher: Annotated[
        str,
        Told(
            MODEL, "A finished run of the same classes, by name or path, whose answers are learned too.", metavar="RUN"
        ),
    ] = ""
    """Empty means none."""
    distill_share: Annotated[
        float, Range(ge=0, le=1), Told(MODEL, "Share of the teacher's answers in the loss; the rest is the labels'.")
    ] = 0.5
    distill_temperature: Annotated[
        float, Range(gt=0, le=100), Told(MODEL, "What the logits of teacher and pupil are divided by.")
    ] = 2.0
    """The higher, the more counts what the teacher makes of wrong classes."""

    epochs: Annotated[
        Annotated[int, Range(ge=1, le=100000)] | Literal["auto"],
        Told(OPTIMISATION, "Passes over the training images."),
    ] = USUAL_EPOCHS
    """auto: 10, and more where so few images would give too few steps."""
    batch_size: Annotated[
        Annotated[int, Range(ge=2, le=65536)] | Literal["auto", "by-images"],
        Told(
            OPTIMISATION,
            "Images a batch; auto: what fits; by-images: a sixteenth of the training images.",
            metavar="N|auto|by-images",
        ),
    ] = 64
    """auto: the most that fit into memory, and leave an epoch some steps; by-images: 16 to 64, the same on every
    machine."""
    lr: Annotated[float, Range(gt=0, le=100), Told(OPTIMISATION, "Peak learning rate.")] = 5e-4
    optimizer: Annotated[str, Told(OPTIMISATION, "Any of timm's: adamw, sgd, adam, rmsprop, lion and more.")] = "adamw"
    """sgd has Nesterov's momentum; the plain one is called momentum."""
    weight_decay: Annotated[
        float, Range(ge=0, le=10), Told(OPTIMISATION, "Weight decay; norms and biases are spared.")
    ] = 0.05
    momentum: Annotated[
        float, Range(ge=0, lt=1), Told(OPTIMISATION, "Momentum, of optimizers that have one, such as sgd and rmsprop.")
    ] = 0.9
    betas: Annotated[
        tuple[Annotated[float, Range(ge=0, lt=1)], ...],
        Told(OPTIMISATION, "Betas, of optimizers that have some, such as adamw, for example 0.9,0.95."),
    ] = ()
    """Empty leaves them to the optimizer."""
    opt_eps: Annotated[
        float,
        Range(ge=0, le=1),
        Told(OPTIMISATION, "What optimizers such as adamw add where they divide; 0 leaves it to the optimizer."),
    ] = 0.0
    layer_decay: Annotated[
        float, Range(gt=0, le=1), Told(OPTIMISATION, "Multiply the rate by this with each layer below the classifier.")
    ] = 1.0
    """1 means that all have the same."""
    schedule: Annotated[
        Literal["cosine", "step", "plateau", "onecycle", "constant"],
        Told(OPTIMISATION, "How the learning rate goes on after the warm-up."),
    ] = "cosine"
    """onecycle has a warm-up of its own, over 30 % of the steps."""
    decay_epochs: Annotated[
        int, Range(ge=0), Told(OPTIMISATION, "Of schedules step and plateau: epochs until the rate falls; 0 chooses.")
    ] = 0
    """Between two steps of schedule step (0: a third of all), or without a better validation figure before schedule
    plateau lowers the rate (0: a tenth of all, at least 2)."""
    decay_rate: Annotated[
        float, Range(gt=0, lt=1), Told(OPTIMISATION, "What schedules step and plateau multiply the rate by.")
    ] = 0.1
    warmup_epochs: Annotated[
        float, Range(ge=0), Told(OPTIMISATION, "Epochs in which the learning rate rises from a hundredth to its peak.")
    ] = 1.0
    """Half of the run at most."""
    loss: Annotated[
        Loss, Told(OPTIMISATION, "The loss; auto: bce where an image may have several labels, else cross_entropy.")
    ] = "auto"
    """focal and bce see each class as a question of its own."""
    label_smoothing: Annotated[
        float, Range(ge=0, lt=1), Told(OPTIMISATION, "How much of each label goes to all classes alike while training.")
    ] = 0.1
    """Towards all classes alike; of a multi-label dataset towards 0.5."""
    clip_grad: Annotated[float, Range(ge=0), Told(OPTIMISATION, "Largest gradient; 0 means no clipping.")] = 0.0
    """As `clip_mode` measures it."""
    clip_mode: Annotated[
        ClipMode,
        Told(
            OPTIMISATION,
            "What is limited: the gradient's norm, each value of it, or (agc) its norm over the weights' own.",
        ),
    ] = "norm"
    """agc is adaptive gradient clipping."""
    accumulate: Annotated[
        int, Range(ge=1, le=65536), Told(OPTIMISATION, "Batches whose gradients make one step of the optimizer.")
    ] = 1
    ema_decay: Annotated[
        float, Range(ge=0, lt=1), Told(OPTIMISATION, "Decay of the weights' moving average; 0 means none.")
    ] = 0.998
    """As far as the run has the steps for it: it reaches back over a tenth of them at most."""
    monitor: Annotated[
        str,
        Told(OPTIMISATION, "The validation figure that chooses the best epoch: top1, loss, macro_f1, map and more."),
    ] = ""
    """loss, top1, top5, macro_f1, macro_recall, map, exact and so on; empty means top1, and map where an image has
    several labels."""
    patience: Annotated[
        int,
        Range(ge=0),
        Told(OPTIMISATION, "Stop after so many epochs without a better validation figure; 0 means never."),
    ] = 0

    augment: Annotated[
        str,
        Told(
            AUGMENTATION,
            "An augmentation: `zoo list augmentations`; or a pipeline that albumentations saved.",
            names="augmentation",
        ),
    ] = "standard"
    augment_options: Annotated[
        dict[str, Any], Told(AUGMENTATION, "An option of the augmentation's own; may be repeated.")
    ] = {}
    mixup: Annotated[
        float, Range(ge=0, le=100), Told(AUGMENTATION, "Blend images in pairs: alpha, for example 0.2; 0 means never.")
    ] = 0.0
    """Alpha of the Beta distribution."""
    cutmix: Annotated[
        float,
        Range(ge=0, le=100),
        Told(AUGMENTATION, "Put a piece of one image into another: alpha, for example 1.0; 0 means never."),
    ] = 0.0
    """With mixup as well, each batch gets one of the two."""
    mix_prob: Annotated[
        float, Range(ge=0, le=1), Told(AUGMENTATION, "Share of the batches that mixup or cutmix mixes.")
    ] = 1.0

    device: Annotated[str, Told(MACHINE, "Where to train: auto, cpu, cuda, cuda:1 or mps.")] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Told(MACHINE, "What training computes in; auto: whichever is faster here."),
    ] = "auto"
    layout: Annotated[
        Literal["auto", "nchw", "nhwc"], Told(MACHINE, "How images lie in memory; auto: whichever is faster here.")
    ] = "auto"
    compile: Annotated[bool, Told(MACHINE, "Compile the training step: pays in long runs.")] = False
    """Forward and backward pass, with torch.compile: minutes at first, steps faster after."""
    workers: Annotated[
        int,
        Range(ge=-1, le=256),
        Told(MACHINE, "Threads that decode and augment; -1 chooses, 0 works in the training thread."),
    ] = -1
    threads: Annotated[
        int, Range(ge=0, le=1024), Told(MACHINE, "Threads of PyTorch on the CPU; 0 leaves it to PyTorch.")
    ] = 0
    """On a busy machine one fewer than the processors is faster."""
    cache: Annotated[
        Literal["auto", "off", "ram", "disk"],
        Told(MACHINE, "Where decoded images are kept; auto: on disk, where all fit."),
    ] = "auto"
    """They are scaled down to a little more than the input."""
    cache_limit: Annotated[
        float, Range(ge=0), Told(MACHINE, "Gigabytes (1e9 bytes) that the caches of all runs may take together.")
    ] = 20.0
    fsdp: Annotated[bool, Told(MACHINE, "Divide the weights among several processes: for models too large.")] = False
    """Gradients and the moments as well."""
    sync_batchnorm: Annotated[bool, Told(MACHINE, "Batch norms see the batches of all processes.")] = False
    """For small batches on several GPUs."""

    trackers: Annotated[
        tuple[str, ...],
        Told(OUTPUT, "Who hears of the run: `zoo list trackers`; may be repeated.", flag="--tracker", names="tracker"),
    ] = ()
    tracker_options: Annotated[dict[str, Any], Told(OUTPUT, "An option of the tracker's own; may be repeated.")] = {}
    """NAME.KEY=VALUE among several trackers."""
    checkpoint_minutes: Annotated[float, Range(ge=0), Told(OUTPUT, "Minutes between two checkpoints, at most.")] = 5.0
    """One is written after each epoch in any case; 0 means no others."""
    checkpoint_steps: Annotated[
        int, Range(ge=0), Told(OUTPUT, "Steps of an epoch between two checkpoints; 0 means that only time counts.")
    ] = 0


@functools.cache
def training_options() -> dict[str, Option]:
    """Return name -> option, in the order of the table."""
    return rows_of(Options)
