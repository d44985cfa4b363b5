"""A recipe: everything that a run depends on, as dataclasses filled from TOML and ``section.key=value``.

An unknown key or a value of the wrong type is an error that names the nearest key or the expected type. The resolved
recipe is written into the run folder, so that a run can always say what made it.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from proxylesskd.data.augment import Augmentation
from proxylesskd.errors import UserError, nearest

Section = TypeVar("Section")


@dataclass(frozen=True)
class DataRecipe:
    """Where the images come from: ``train`` is a source URI, ``check`` a verification set looked at while training.

    ``check_root`` is the folder of the images of a pair list that does not lie beside them. ``keep`` is a list of
    images, such as 'inherit --clean' writes; all others are left out.
    """

    train: str = ""
    keep: str = ""
    check: str = ""
    check_root: str = ""
    workers: int = 2


@dataclass(frozen=True)
class ModelRecipe:
    """The network that is trained; ``dim = 0`` takes the classifier's dimension.

    ``projector`` ends it in three linear layers that stay, see :mod:`proxylesskd.models.projector`.
    """

    name: str = "mobilefacenet"
    dim: int = 0
    width: float = 1.0
    image_size: int = 112
    projector: bool = False


@dataclass(frozen=True)
class MethodRecipe:
    """How it learns: ``name`` is a method or a sum of methods, see :mod:`proxylesskd.methods.formula`; ``auto`` is
    ``homing`` where a teacher is given, else ``proxyless``.

    ``classifier`` is the inherited one, for methods that go through it; ``teacher`` is a model, for methods that hear
    it and for the audit: a sample of the faces must find its own rows in the classifier. Where only flips augment,
    what the teacher says is computed once: ``cache`` is ``auto``, ``cached`` or ``live``, ``cache_folder`` where it
    lies (for all users' runs, unless given). ``m`` is the margin; ``m1`` and ``m3`` belong to ``combined``, ``m_high``
    and ``penalty`` to ``magface``, ``concentration`` to ``adaface``. ``engine`` is ``auto``, ``reference``,
    ``chunked``, ``triton``, ``sharded`` (rows split over the processes) or ``neighbours`` (an approximation:
    ``neighbours`` nearest rows and a ``sample`` of the others, compared with the exact loss every ``gap_every`` steps).
    """

    name: str = "auto"
    classifier: str = ""
    teacher: str = ""
    cache: str = "auto"
    cache_folder: str = ""
    margin: str = "arcface"
    m: float = 0.5
    m1: float = 1.0
    m3: float = 0.0
    m_high: float = 0.8
    penalty: float = 35.0
    concentration: float = 0.333
    scale: float = 64.0
    gradient: str = "analytic"
    smoothing: float = 0.0
    engine: str = "auto"
    neighbours: int = 128
    sample: float = 0.01
    gap_every: int = 200


@dataclass(frozen=True)
class TrainRecipe:
    """How long and how fast. ``steps = 0`` means ``epochs``, ``check_every = 0`` once an epoch; intervals are steps.

    ``batch`` is that of all processes together. With ``sync_norm`` so are the statistics of batch normalisation.
    """

    epochs: float = 26.0
    steps: int = 0
    batch: int = 128
    learning_rate: float = 0.1
    schedule: str = "cosine"
    warmup: float = 0.02
    milestones: list[float] = field(default_factory=lambda: [0.4, 0.65, 0.85])
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    clip: float = 5.0
    accumulate: int = 1
    autocast: str = "auto"
    compile: str = "auto"
    sync_norm: bool = True
    log_every: int = 20
    check_every: int = 0
    checkpoint_every: int = 500


@dataclass(frozen=True)
class Recipe:
    """All sections and the seed that every random choice derives from."""

    seed: int = 0
    data: DataRecipe = field(default_factory=DataRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    method: MethodRecipe = field(default_factory=MethodRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    augment: Augmentation = field(default_factory=Augmentation)

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested values, for files and fingerprints."""
        return dataclasses.asdict(self)

    def to_toml(self) -> str:
        """Return the recipe as TOML that :func:`load_recipe` reads back unchanged."""
        return as_toml(self.to_dict())


def as_toml(tree: dict[str, Any]) -> str:
    """Return a seed and sections of plain values as TOML."""
    lines = [f"seed = {tree['seed']}"]
    for name, section in tree.items():
        if isinstance(section, dict):
            lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


def load_recipe(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply ``section.key=value`` overrides, later ones winning.

    Args:
        path: a TOML file; without one the defaults stand.
        overrides: such as ``"train.batch=64"``; values are TOML, bare words are strings.

    Raises:
        UserError: the file cannot be read, a key is unknown or a value has the wrong type.
    """
    return laid_over(Recipe(), path, overrides)


def laid_over(base: Section, path: str | Path | None = None, overrides: Sequence[str] = ()) -> Section:
    """Lay a TOML file and then overrides over any dataclass of sections, as :func:`load_recipe` does.

    Raises:
        UserError: as :func:`load_recipe`.
    """
    base = base if path is None else _overlay(base, _read(Path(path)), "")
    for override in overrides:
        base = _overlay(base, _tree(override), "")
    return base


def build_recipe(tree: dict[str, Any], base: Recipe | None = None) -> Recipe:
    """Lay nested plain values over a recipe."""
    return _overlay(base or Recipe(), tree, "")


def override_recipe(recipe: Recipe, override: str) -> Recipe:
    """Apply one ``section.key=value``."""
    return build_recipe(_tree(override), recipe)


def _tree(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"expected section.key=value, found '{override}'")
    value: Any = _value(text.strip())
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return typing.cast(dict[str, Any], value)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"expected a recipe at '{path}', found none ({error.strerror}); give an existing file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"expected TOML in '{path}', found {error}") from error


def _overlay(section: Section, values: dict[str, Any], where: str) -> Section:
    """Return a copy of a dataclass with ``values`` laid over it, checked by its annotations."""
    hints = typing.get_type_hints(type(section))
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise UserError(f"unknown key '{where}{key}'{_hint(key, where, list(hints))}")
        kind = hints[key]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, dict):
                raise UserError(f"expected a section at '{key}' (such as {key}.name=value), found {value!r}")
            changes[key] = _overlay(getattr(section, key), value, f"{key}.")
        else:
            changes[key] = _typed(value, kind, where + key)
    return dataclasses.replace(section, **changes)  # type: ignore[type-var]


def _hint(key: str, where: str, here: list[str]) -> str:
    """Name the nearest key of this section, or else of any other."""
    if hint := nearest(key, here):
        return hint.replace("'", f"'{where}", 1) if where else hint
    everywhere = {k: f"{s}.{k}" for s, keys in Recipe().to_dict().items() if isinstance(keys, dict) for k in keys}
    if key in everywhere:
        return f"; did you mean '{everywhere[key]}'?"
    return f"; known here: {', '.join(here)}"


def _typed(value: Any, kind: Any, key: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == list[float] and isinstance(value, list) and all(isinstance(v, int | float) for v in value):
        return [float(v) for v in value]
    if kind in (int, float, str, bool) and type(value) is kind:
        return value
    if kind is str and not isinstance(value, dict | list):
        return str(value)
    name = getattr(kind, "__name__", str(kind)) if kind in (int, float, str, bool) else "list of numbers"
    raise UserError(f"expected a value of type {name} for '{key}', found {value!r}")
