"""The names that a project file may use: ours, and those of other packages.

Ours are known without importing what they stand for. Another package offers a critic, say, as an entry point:

    [project.entry-points."lvlm_va.critics"]
    tags = "hospital.critics:Tags"

It is looked for only where a name is not ours, and loaded only where it is used. Without a package,
"module:Class" names one of the working folder, and an object can be given from Python: all come out as a
`Foreign`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lvlm_va.errors import ExtensionError, LvlmVaError
from lvlm_va.io.imports import import_object, may_be_imported, modules_here

__all__ = ["ATTRIBUTIONS", "CRITICS", "DATA_SETS", "MAX_PIXELS", "SEGMENTATIONS", "Foreign", "Names"]

MAX_PIXELS = 178_956_970
"""Of one image, unless `data.max_pixels` says otherwise: Pillow's own bound, half a gigabyte of RGB."""


@dataclass(frozen=True)
class Foreign:
    """What another package or the caller brings in place of something of ours.

    Attributes:
        name: as a project file names it; an object's own.
        version: its own, else that of the package it comes from; None where neither has one. What was
            computed with another version is computed again.
        thing: the object.
        call: its method, or the object itself where that is a function.
    """

    name: str
    version: str | None
    thing: Any
    call: Callable[..., Any]

    def ability(self, name: str, default: Any = None) -> Any:
        """An attribute that its protocol calls optional."""
        return getattr(self.thing, name, default)

    def complaint(self, what: str) -> ExtensionError:
        """`what` is wrong with it, as an error that says whose it is."""
        return ExtensionError(f"{self.name}, a {type(self.thing).__name__}: {what}")


@dataclass(frozen=True)
class Names:
    """The names of one kind of thing that can be brought from outside.

    Attributes:
        what: the kind, e.g. "attribution method".
        group: of the entry points, e.g. "lvlm_va.attributions".
        ours: the built-in names; "openai:<model>" stands for all that begin with "openai:".
        method: what such an object must have, with its arguments.
        protocol: where that is described.
    """

    what: str
    group: str
    ours: tuple[str, ...]
    method: str
    protocol: str

    def is_ours(self, name: str) -> bool:
        """Whether `name` is built in."""
        return any(name.startswith(own.partition("<")[0]) if "<" in own else name == own for own in self.ours)

    def theirs(self) -> list[str]:
        """The names that other packages offer; nothing of them is imported."""
        return sorted({entry.name for entry in entry_points(group=self.group)})

    def check(self, name: str) -> str:
        """`name` as it is.

        Raises:
            ValueError: naming the nearest, if neither we nor an installed package know it.
        """
        if not (self.is_ours(name) or entry_points(group=self.group, name=name) or may_be_imported(name)):
            raise ValueError(f"unknown {self.what} {name!r}; {self._hint(name)}")
        return name

    def _hint(self, name: str) -> str:
        """What is meant by a name that nobody knows; of "module:Class" the module decides."""
        module, colon, attribute = name.partition(":")
        known = {own.partition(":")[0]: own for own in (*self.ours, *self.theirs())}
        mine = {file: f"{file}:{attribute}" for file in modules_here()} if colon else {}
        if close := get_close_matches(module, mine | known, n=1):
            return f"did you mean {(mine | known)[close[0]]!r}?"
        if colon:
            return f"there is no module {module!r}: is it installed, in this folder, or on PYTHONPATH?"
        return f"known are {', '.join(map(repr, known.values()))}, and module:attribute of a file of yours"

    def load(self, name: str) -> Foreign:
        """What a name stands for: an entry point, or "module:attribute"; of a class an object is made.

        Raises:
            ConfigError: if there is no such module or attribute.
            ExtensionError: if there is no such entry point, if two packages offer it, or if it cannot be
                loaded or used; with the package's name.
        """
        try:
            self.check(name)
        except ValueError as error:
            raise ExtensionError(str(error)) from None
        offers = tuple(entry_points(group=self.group, name=name))
        if len({entry.value for entry in offers}) > 1:
            raise ExtensionError(
                f"{self.what} {name!r} is offered by {' and by '.join(map(_whose, offers))}: keep one of them"
            )
        entry = offers[0] if offers else None
        where = f"{self.what} {name!r}" if entry is None else f"{self.what} {name!r} of {_whose(entry)}"
        try:
            thing = import_object(name, self.what, ExtensionError) if entry is None else entry.load()
            if isinstance(thing, type):
                thing = thing()
        except LvlmVaError:  # Interrupted, above all
            raise
        except (Exception, SystemExit) as error:  # a module that ends by itself must not end us in silence
            raise ExtensionError(
                f"{where} cannot be loaded ({type(error).__name__}: {error}); mend or reinstall the package"
            ) from error
        version = None if entry is None or entry.dist is None else entry.dist.version
        return Foreign(name, _version(thing) or version, thing, self._call(thing, where))

    def given(self, thing: object) -> Foreign:
        """An object in place of a name.

        Raises:
            ExtensionError: if it lacks the method or a name, or goes by a name of ours.
        """
        where = type(thing).__name__
        if isinstance(thing, type):
            raise ExtensionError(f"{thing.__name__} is a class; give an object of it, {thing.__name__}()")
        call = self._call(thing, where)
        name = getattr(thing, "name", getattr(thing, "__name__", None))
        if not isinstance(name, str) or not name.strip():
            raise ExtensionError(
                f"{where} is a {self.what} without a name; give it an attribute `name`, a text"
            )
        if self.is_ours(name):
            raise ExtensionError(
                f"{where} goes by the name {name!r}, which is built in; give it another name"
            )
        return Foreign(name, _version(thing), thing, call)

    def _call(self, thing: object, where: str) -> Callable[..., Any]:
        method = self.method.partition("(")[0]
        call = getattr(thing, method, thing)
        if not callable(call):
            raise ExtensionError(
                f"{where} is no {self.what}: it has no method {self.method}; see {self.protocol}"
            )
        return call


def _version(thing: object) -> str | None:
    version = getattr(thing, "version", None)
    return None if version is None else str(version)


def _whose(entry: EntryPoint) -> str:
    package = (
        "an unnamed package" if entry.dist is None else f"the package {entry.dist.name} {entry.dist.version}"
    )
    return f"{package} ({entry.value})"


CRITICS = Names(
    "critic",
    "lvlm_va.critics",
    (
        "builtin",
        "ground-truth",
        "openai:<model>",
        "hf:<model>",
        "file:<who>",
        "file",
        "person:<who>",
        "person",
    ),
    "critique(question)",
    "lvlm_va.Critic",
)
"""`critique.critic` and `critique.judge`."""

ATTRIBUTIONS = Names(
    "attribution method",
    "lvlm_va.attributions",
    ("deeplift-shap", "integrated-gradients", "gradient-shap"),
    "attribute(model, images, targets, baselines)",
    "lvlm_va.AttributionMethod",
)
"""`explain.attribution`."""

SEGMENTATIONS = Names(
    "segmentation",
    "lvlm_va.segmentations",
    ("ppeps-wgm", "sam", "slic"),
    "segment(image, attribution, J)",
    "lvlm_va.SegmentationMethod",
)
"""`explain.segmentation`."""

DATA_SETS = Names(
    "data set",
    "lvlm_va.datasets",
    ("folder", "manifest", "decoy-mnist", "knee", "skin"),
    "load(settings, log)",
    "lvlm_va.DataSource",
)
"""`data.name`: the user's own images, the paper's data sets, or those of other packages."""
