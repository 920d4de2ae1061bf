"""The rules that turn looks into findings: single images, then pictures that are alike, then classes and splits."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from zoo.data.checkup.alike import (
    LEAST_DETAIL,
    MOST_COMPARED_WITH_ALL,
    SMALLEST_SIDE,
    comparable,
    connected,
    equal,
    nearly_equal,
)
from zoo.data.checkup.findings import ERROR, REMARK, WARNING, Case, Finding, Picture
from zoo.data.checkup.looks import expected_format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from zoo.data.checkup.alike import Likeness, Pair

LARGE_MEGAPIXELS = 25
LONGEST_ASPECT = 4
MODEL_SIDE = 224
"""What most pretrained models take."""
FEWEST_IMAGES = 10
"""Of a class in train."""
LARGEST_IMBALANCE = 10


def judge_images(pictures: Sequence[Picture]) -> Iterator[Finding]:
    """Yield what is wrong with single images."""
    broken = [p for p in pictures if p.look.fault]
    yield from _single(
        ("unreadable", f"unreadable images ({_reasons(broken)})", ERROR),
        [(p, p.look.fault, {"reason": p.look.reason}) for p in broken],
        "copy or download them again, or delete them; zoo leaves them out",
    )
    good = [p for p in pictures if not p.look.fault]
    yield from _single(
        ("damaged", "damaged JPEG files that decode all the same", WARNING),
        [(p, p.look.flaw, {}) for p in good if p.look.flaw],
        "look at them: what comes after the damage may be grey or shifted; copy or download them again",
    )
    yield from _single(
        ("wrong-suffix", "files whose suffix names another format", WARNING),
        [
            (p, f"is a {p.look.format} file", {"format": p.look.format})
            for p in good
            if p.look.path and expected_format(p.look.path) not in ("", p.look.format)
        ],
        "rename them: zoo goes by the content, other programs by the suffix",
    )
    yield from _single(
        ("blank", "images of nothing but one colour", WARNING),
        [(p, f"is {_size(p)} of one colour", {}) for p in good if p.look.trace and p.look.trace.blank],
        "look at them, and delete what shows nothing",
    )
    yield from _judge_sizes(good)


def _judge_sizes(good: Sequence[Picture]) -> Iterator[Finding]:
    tiny = [p for p in good if min(p.look.height, p.look.width) < SMALLEST_SIDE]
    mostly = 2 * len(tiny) > len(good)
    yield from _single(
        ("tiny-image", f"images with a side below {SMALLEST_SIDE} pixels", REMARK if mostly else WARNING),
        [(p, f"is {_size(p)}", {}) for p in tiny],
        "train with a small --image-size, which suits such pictures"
        if mostly
        else "look whether they are thumbnails or icons that slipped in, and delete those",
    )
    yield from _single(
        ("elongated", f"images more than {LONGEST_ASPECT} times as long as wide", WARNING),
        [
            (p, f"is {_size(p)}, {_aspect(p):.1f} to 1", {"aspect": round(_aspect(p), 2)})
            for p in good
            if _aspect(p) > LONGEST_ASPECT
        ],
        "cut them: a crop of the centre sees little of them",
    )
    yield from _single(
        ("large-image", f"images over {LARGE_MEGAPIXELS} megapixels", REMARK),
        [(p, f"is {_size(p)}", {}) for p in good if p.look.height * p.look.width > LARGE_MEGAPIXELS * 1e6],
        "make smaller copies: each epoch decodes every one of them",
    )
    yield from _single(
        ("small-image", f"images with a side below {MODEL_SIDE} pixels, which most models take", REMARK),
        [(p, f"is {_size(p)}", {}) for p in good if SMALLEST_SIDE <= min(p.look.height, p.look.width) < MODEL_SIDE],
        "nothing, or train with a smaller --image-size: they are enlarged",
    )


def judge_likeness(
    pictures: Sequence[Picture], progress: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Finding]:
    """Yield pictures that stand more than once: in one split, in several, under several classes."""
    good = [p for p in pictures if not p.look.fault]
    same = equal([p.look.pixels for p in good])
    yield from _twins([_exact_case([good[i] for i in group]) for group in same], near=False)

    first_of = {i: group[0] for group in same for i in group}
    able = [p.look.trace is not None and comparable(p.look.trace, p.look.height, p.look.width) for p in good]
    chosen = [i for i in range(len(good)) if able[i] and first_of.get(i, i) == i]
    traces = [trace for i in chosen if (trace := good[i].look.trace)]
    found = nearly_equal(traces, [good[i].classes for i in chosen], progress)
    members = {group[0]: group for group in same}
    yield from _twins(list(_near_cases(good, chosen, found.pairs, members)), near=True)
    yield from _without_images(
        ("searched-partly", "near duplicates that may have been overlooked", REMARK),
        _overlooked(found),
        "nothing, or check parts of the dataset one by one",
    )
    yield from _single(
        ("not-compared", "images with too little in them to be searched for near duplicates", REMARK),
        [(p, f"is {_size(p)}", {}) for p, is_able in zip(good, able, strict=True) if not is_able],
        f"nothing; below {SMALLEST_SIDE} pixels, or nearly without detail (under {LEAST_DETAIL:g} of 255 grey levels), "
        "different pictures look alike; exact duplicates were searched for",
    )


def _overlooked(found: Likeness) -> list[Case]:
    cases = []
    if found.banded:
        text = f"with over {MOST_COMPARED_WITH_ALL:,} images only hashes that agree in some part were compared"
        cases.append(Case(detail=text))
    if found.untried:
        text = f"{found.untried:,} pairs with similar hashes were not tried as cropped copies: too many"
        cases.append(Case(detail=text, facts={"pairs": found.untried}))
    return cases


def _exact_case(group: list[Picture]) -> Case:
    identical = len({p.look.sha256 for p in group}) == 1
    return Case(
        pictures=tuple(group),
        detail="the same content" if identical else "the same pixels in different files",
        facts={"how": "same-content" if identical else "same-pixels"},
    )


def _near_cases(
    good: Sequence[Picture], chosen: Sequence[int], pairs: Sequence[Pair], members: dict[int, list[int]]
) -> Iterator[Case]:
    groups = connected(len(chosen), pairs)
    group_of = {position: number for number, group in enumerate(groups) for position in group}
    of_group: dict[int, list[Pair]] = {}
    for pair in pairs:
        of_group.setdefault(group_of[pair.first], []).append(pair)
    for number, group in enumerate(groups):
        least = min(of_group[number], key=lambda pair: pair.likeness)
        hows = sorted({pair.how for pair in of_group[number]} - {""})
        every = [i for position in group for i in members.get(chosen[position], [chosen[position]])]
        yield Case(
            pictures=tuple(good[i] for i in every),
            detail=f"{', '.join(hows) or 'encoded or resized anew'}, likeness {least.likeness:.3f}",
            facts={"how": hows or ["re-encoded"], "likeness": round(least.likeness, 4)},
        )


def _twins(cases: Sequence[Case], *, near: bool) -> Iterator[Finding]:
    spans = [(len({p.split for p in case.pictures}) > 1, len({p.classes for p in case.pictures}) > 1) for case in cases]
    leaks = [case for case, (splits, _) in zip(cases, spans, strict=True) if splits]
    conflicts = [case for case, (_, classes) in zip(cases, spans, strict=True) if classes]
    inside = [case for case, span in zip(cases, spans, strict=True) if not any(span)]
    prefix, which = ("near-", "nearly the same picture") if near else ("", "the same picture")
    found = [
        (
            "leak",
            ERROR,
            f"{which} in several splits",
            leaks,
            "delete all but one, or keep them in one split: else a model is tested on what it learnt by heart",
        ),
        (
            "label-conflict",
            WARNING if near else ERROR,
            f"{which} under different classes",
            conflicts,
            "look which class is right, and delete it from the others",
        ),
        (
            "duplicate",
            WARNING,
            f"{which} more than once in a split",
            inside,
            "keep one of each, unless it shall count more than others",
        ),
    ]
    for kind, severity, title, some, advice in found:
        if some:
            yield Finding(kind=prefix + kind, title=title, severity=severity, advice=advice, cases=some)


def judge_classes(pictures: Sequence[Picture], classes: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with the number of usable images of classes in splits."""
    counts: dict[str, Counter[str]] = {}
    for picture in pictures:
        counts.setdefault(picture.split, Counter()).update(() if picture.look.fault else picture.classes)
    missing = [
        Case(detail=f"{name!r} in {split}", facts={"class": name, "split": split})
        for split, found in counts.items()
        for name in classes
        if not found[name]
    ]
    yield from _without_images(
        ("missing-class", "classes without a usable image in a split", WARNING),
        missing,
        "add some: without images a class cannot be learnt, nor its accuracy be known",
    )
    train = counts.get("train", Counter())
    yield from _without_images(
        ("small-class", f"classes with fewer than {FEWEST_IMAGES} training images", WARNING),
        [
            Case(detail=f"{name!r} has {train[name]}", facts={"class": name, "training_images": train[name]})
            for name in classes
            if 0 < train[name] < FEWEST_IMAGES
        ],
        "add images, or join classes",
    )
    present = [(train[name], name) for name in classes if train[name]]
    if present and max(present)[0] > LARGEST_IMBALANCE * min(present)[0]:
        (least, rare), (most, common) = min(present), max(present)
        text = f"{common!r} has {most} training images, {rare!r} {least}: {most / least:.0f} times as many"
        facts = {"largest": common, "smallest": rare, "ratio": round(most / least, 2)}
        yield Finding(
            kind="imbalance",
            title="classes of very different size",
            severity=WARNING,
            advice="add images of the rare ones, and judge by macro F1 rather than top-1",
            cases=[Case(detail=text, facts=facts)],
        )


def _single(
    head: tuple[str, str, str], found: Iterable[tuple[Picture, str, dict[str, object]]], advice: str
) -> Iterator[Finding]:
    kind, title, severity = head
    cases = [Case(pictures=(picture,), detail=detail, facts=facts) for picture, detail, facts in found]
    if cases:
        yield Finding(kind=kind, title=title, severity=severity, advice=advice, cases=cases)


def _without_images(head: tuple[str, str, str], cases: Sequence[Case], advice: str) -> Iterator[Finding]:
    kind, title, severity = head
    if cases:
        yield Finding(kind=kind, title=title, severity=severity, advice=advice, cases=cases)


def _reasons(broken: Sequence[Picture]) -> str:
    counts = Counter(picture.look.reason for picture in broken)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def _size(picture: Picture) -> str:
    return f"{picture.look.width} x {picture.look.height} pixels"


def _aspect(picture: Picture) -> float:
    sides = sorted((picture.look.height, picture.look.width))
    return sides[1] / sides[0]
