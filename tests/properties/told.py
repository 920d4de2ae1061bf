"""What becomes of a question: an answer, or a refusal that the user reads as one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.errors import ZooError

Answer = TypeVar("Answer")


class Refused(str):
    """The text of an error that is meant for the user."""

    __slots__ = ()


def answer(ask: Callable[[], Answer], refusal: type[ZooError]) -> Answer | Refused:
    """Return what `ask` returns, or what it was refused with; the test fails at any other error, or no single line."""
    try:
        return ask()
    except refusal as exc:
        text = str(exc)
    assert text.strip()
    assert len(text.splitlines()) == 1, text
    return Refused(text)
