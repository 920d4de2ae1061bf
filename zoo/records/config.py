"""What the user asked for: frozen, checked, each value with the layer it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from zoo.errors import OptionInvalid
from zoo.records.options import USUAL_EPOCHS, Options
from zoo.records.rows import parts_of

if TYPE_CHECKING:
    from zoo.data.folds import Fold

RESUME_MAY_CHANGE = frozenset(
    {"epochs", "workers", "patience", "cache_limit", "checkpoint_minutes", "checkpoint_steps"}
)
"""Options that a resumed run may take anew; any other would make it a different run."""


class TrainConfig(BaseModel, Options):
    """The options of a run, checked: each row of `zoo.records.options.Options` is a field."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    if TYPE_CHECKING:

        def __init__(self, **options: Any) -> None: ...

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
        from zoo.data.folds import Fold

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
        return parts_of(value)


class Resolved(BaseModel):
    """A configuration, and for each value the layer that set it."""

    model_config = ConfigDict(frozen=True)

    config: TrainConfig
    origins: dict[str, str]
