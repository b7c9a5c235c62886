"""From a listing to the parts that a project works with: decoded, divided, compared with one another."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch

from lvlm_va.data.decoded import Decoded, decode
from lvlm_va.data.decoded_imageset import DecodedImageSet
from lvlm_va.data.held_out import how_many, stratified
from lvlm_va.data.imageset import Groups
from lvlm_va.data.labels import label_strata, several_labels
from lvlm_va.data.leaks import find_leaks
from lvlm_va.data.listing import TRAIN, VALIDATION, Listing, Preparation, Record
from lvlm_va.data.splits import Splits
from lvlm_va.errors import DataError

__all__ = ["assemble"]

Log = Callable[[str], None]

_SHOWN = 5  # names in a line of the log


def assemble(listing: Listing, preparation: Preparation, *, log: Log) -> Splits:
    """Decode all images once and divide them.

    An image that cannot be read is set aside and named; what the data set does not say about validation
    and test is drawn from its training images.

    Raises:
        DataError: if a name occurs twice, or a class has nothing left to train on.
    """
    _check_ids(listing)
    if not listing.records:
        raise DataError(f"{listing.source}: no images found{_because(listing.set_aside)}")
    decoded = decode(
        listing.names,
        listing.read,
        size=preparation.size,
        resize=preparation.resize,
        channels=preparation.channels,
        workers=listing.workers,
        log=log,
    )
    masks = None
    if listing.mask_names and listing.read_mask is not None:
        masks = decode(
            listing.mask_names,
            listing.read_mask,
            size=preparation.size,
            resize=preparation.resize,
            channels="grey",
            workers=listing.workers,
            log=log,
        )
    unusable = _unusable(listing.records, decoded, masks)
    set_aside = dict(listing.set_aside) | unusable
    if set_aside:
        log(f"WARNING: set aside {len(set_aside)} files: {_few(set_aside)}")
    records = [record for record in listing.records if record.id not in unusable]
    if remarks := {r.id: decoded.remarks[r.row] for r in records if r.row in decoded.remarks}:
        log(f"WARNING: {len(remarks)} images were read, with remarks: {_few(remarks)}")
    parts = _divide(listing, records, decoded, preparation, set_aside, log)

    leaks = find_leaks({name: {r.id: decoded.digests[r.row] for r in part} for name, part in parts.items()})
    for leak in leaks:
        log(f"WARNING: the same images in two parts: {leak}. What is measured there is too good.")
    _tell_contradictions(parts[TRAIN], listing.class_names, decoded, log)

    names = _group_names(listing, records)
    sets = {name: _image_set(listing, part, decoded, masks, names) for name, part in parts.items()}
    return Splits(
        name=listing.name,
        train=sets.pop(TRAIN),
        validation=sets.pop(VALIDATION, None),
        tests=sets,
        source=listing.source,
        planted=None if masks is None else "what the masks mark",
        set_aside=set_aside,
        leaks=leaks,
        remarks=listing.remarks,
        shorter_side=int(median(min(decoded.sizes[record.row]) for record in parts[TRAIN])),
    )


def _check_ids(listing: Listing) -> None:
    first: dict[str, int] = {}
    for n, record in enumerate(listing.records):
        if record.id in first:
            raise DataError(
                f"{listing.source}: the image {record.id!r} is listed twice, as number "
                f"{first[record.id] + 1} and {n + 1}; every image needs a name of its own"
            )
        first[record.id] = n


def _unusable(records: Sequence[Record], decoded: Decoded, masks: Decoded | None) -> dict[str, str]:
    """Image id → why an image or its mask cannot be used."""
    reasons = {}
    for record in records:
        if record.row in decoded.problems:
            reasons[record.id] = decoded.problems[record.row]
        elif masks is not None and record.mask is not None:
            if record.mask in masks.problems:
                reasons[record.id] = f"its mask: {masks.problems[record.mask]}"
            elif masks.sizes[record.mask] != decoded.sizes[record.row]:
                (h, w), (height, width) = masks.sizes[record.mask], decoded.sizes[record.row]
                reasons[record.id] = f"its mask is {w}×{h} pixels, the image {width}×{height}"
    return reasons


def _divide(
    listing: Listing,
    records: Sequence[Record],
    decoded: Decoded,
    preparation: Preparation,
    set_aside: Mapping[str, str],
    log: Log,
) -> dict[str, list[Record]]:
    """Part → its images: the training part first, then validation, then the tests."""
    said: dict[str, list[Record]] = {}
    for record in records:
        said.setdefault(record.split or TRAIN, []).append(record)
    pool = said.pop(TRAIN, [])
    _check_classes(listing, pool, set_aside)
    for split in sorted({record.split for record in listing.records if record.split} - {TRAIN, *said}):
        # Another one would be held out of the training images, and the user's own forgotten.
        raise DataError(f"{listing.source}: no usable image in the part {split}{_because(set_aside)}")
    validation = said.pop(VALIDATION, None)
    tests = said
    n = len(pool)
    drawn: dict[str, list[Record]] = {}
    # The test first: what is tested then does not depend on how much is validated.
    for stream, (name, there, amount) in enumerate(
        (("test", bool(tests), preparation.test), (VALIDATION, bool(validation), preparation.validation))
    ):
        count = 0 if there else how_many(amount, n)
        if count:
            if count >= len(pool):
                raise DataError(
                    f"{listing.source}: {count} images are to be held out for {name}, but there are "
                    f"{len(pool)}; hold out fewer, or add images"
                )
            same = [decoded.digests[r.row] for r in pool]
            chosen = set(stratified(_strata(pool), same, count, (preparation.seed, stream)))
            drawn[name] = [r for i, r in enumerate(pool) if i in chosen]
            pool = [r for i, r in enumerate(pool) if i not in chosen]
            log(f"No {name} images are named: {len(drawn[name])} of {n} training images are held out.")
    validation = validation or drawn.get(VALIDATION)
    tests = tests or {name: part for name, part in drawn.items() if name != VALIDATION}
    parts = {TRAIN: pool} | ({VALIDATION: validation} if validation else {}) | tests
    for name, part in parts.items():
        if lacking := _lacking(listing.class_names, part):
            log(f"WARNING: {name} has no image of {', '.join(map(repr, lacking))}.")
    return parts


def _strata(records: Sequence[Record]) -> list[int]:
    """N numbers by which images are held out evenly: their classes, or the rarest of their labels."""
    labels = torch.tensor([record.label for record in records])
    found: list[int] = label_strata(labels) if several_labels(labels) else labels.tolist()
    return found


def _check_classes(listing: Listing, pool: Sequence[Record], set_aside: Mapping[str, str]) -> None:
    labels = [record.label for record in pool if isinstance(record.label, tuple)]
    for k, name in enumerate(listing.class_names if labels else ()):
        for value, what in ((1.0, "has"), (0.0, "is known not to have")):
            if all(row[k] != value for row in labels):
                raise DataError(
                    f"{listing.source}: no usable training image {what} the label {name!r}"
                    f"{_because(set_aside)}; every label needs images with and without it. A list of "
                    "data.columns leaves it out, and 0 in its column says that an image has it not"
                )
    if labels:
        return
    if lacking := _lacking(listing.class_names, pool):
        raise DataError(
            f"{listing.source}: no usable training image of class {', '.join(map(repr, lacking))}"
            f"{_because(set_aside)}; every class needs some"
        )


def _lacking(class_names: Sequence[str], records: Sequence[Record]) -> list[str]:
    present = {k for record in records for k in record.classes}
    return [name for k, name in enumerate(class_names) if k not in present]


def _tell_contradictions(
    records: Sequence[Record], class_names: Sequence[str], decoded: Decoded, log: Log
) -> None:
    first: dict[str, Record] = {}
    pairs = []
    for record in records:
        earlier = first.setdefault(decoded.digests[record.row], record)
        if earlier.label != record.label:
            a, b = (
                " and ".join(class_names[k] for k in one.classes) or "no label" for one in (earlier, record)
            )
            pairs.append(f"{earlier.id} ({a}) = {record.id} ({b})")
    if pairs:
        more = ", ..." if len(pairs) > _SHOWN else ""
        log(f"WARNING: the same image in two classes, {len(pairs)} times: {', '.join(pairs[:_SHOWN])}{more}")


def _group_names(listing: Listing, records: Sequence[Record]) -> dict[tuple[int, tuple[str, ...]], str]:
    """(class, values of the group columns) → e.g. "healthy, tag=1"; the same in all parts.

    Of several labels "tag=1", and the class is −1: see `groups_of`.
    """
    if not listing.group_columns:
        return {}
    present = sorted({(_class_of(record), record.groups) for record in records})
    return {
        (label, values): ", ".join(
            [
                *([] if label < 0 else [listing.class_names[label]]),
                *(f"{c}={v}" for c, v in zip(listing.group_columns, values, strict=True)),
            ]
        )
        for label, values in present
    }


def _class_of(record: Record) -> int:
    return record.label if isinstance(record.label, int) else -1


def _image_set(
    listing: Listing,
    records: Sequence[Record],
    decoded: Decoded,
    masks: Decoded | None,
    names: Mapping[tuple[int, tuple[str, ...]], str],
) -> DecodedImageSet:
    groups = None
    if names:
        index = {key: g for g, key in enumerate(names)}
        groups = Groups(tuple(names.values()), torch.tensor([index[_class_of(r), r.groups] for r in records]))
    return DecodedImageSet(
        decoded=decoded,
        rows=torch.tensor([r.row for r in records]),
        labels=torch.tensor([r.label for r in records]),
        ids=[r.id for r in records],
        class_names=listing.class_names,
        masks=masks,
        mask_rows=None
        if masks is None
        else torch.tensor([-1 if r.mask is None else r.mask for r in records]),
        groups=groups,
    )


def _because(set_aside: Mapping[str, str]) -> str:
    return f" ({len(set_aside)} files were set aside: {_few(set_aside)})" if set_aside else ""


def _few(set_aside: Mapping[str, str]) -> str:
    shown = [f"{name}: {reason}" for name, reason in list(set_aside.items())[:_SHOWN]]
    return "; ".join(shown) + ("; ..." if len(set_aside) > _SHOWN else "")
