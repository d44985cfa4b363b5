"""Which similarity counts as one person: thresholds by false accept rate, and the curve to probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from proxylesskd.errors import UserError
from proxylesskd.evaluation.calibration import Calibration
from proxylesskd.export.run_folder import read_json

SINGLE, CROSS = "single", "cross"
Rates = Mapping[float, float]  # false accept rate -> the least similarity that is accepted


@dataclass(frozen=True)
class Scale:
    """What similarities of a model mean in one mode.

    Attributes:
        thresholds: by false accept rate.
        calibration: to probabilities, or None.
    """

    thresholds: Rates = field(default_factory=dict)
    calibration: Calibration | None = None

    def at(self, far: float) -> float | None:
        """Return the threshold of a false accept rate; None where none is known."""
        return next((value for rate, value in self.thresholds.items() if math.isclose(rate, far, rel_tol=1e-6)), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        rates = {far_name(far): value for far, value in self.thresholds.items()}
        return {"thresholds": rates, "calibration": None if self.calibration is None else self.calibration.to_dict()}


UNKNOWN = Scale()


def far_name(far: float) -> str:
    """Return a false accept rate as contracts name it: ``1e-3``, ``2.5e-4``."""
    mantissa, _, exponent = f"{far:.6e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def scale_of(rates: Mapping[str, float], curve: Mapping[str, float] | None) -> Scale:
    """Read a scale from plain values.

    Raises:
        ValueError: a rate, a threshold or the curve is none.
        KeyError: the curve lacks a part.
    """
    thresholds = {float(far): float(value) for far, value in rates.items()}
    if not all(0 < far <= 1 and math.isfinite(value) for far, value in thresholds.items()):
        raise ValueError("expected rates in (0, 1] and finite thresholds")
    if not curve:
        return Scale(thresholds)
    calibration = Calibration(float(curve["slope"]), float(curve["intercept"]))
    if not (math.isfinite(calibration.slope) and math.isfinite(calibration.intercept) and calibration.slope > 0):
        raise ValueError("expected a rising curve to probabilities")
    return Scale(thresholds, calibration)


class Known(Protocol):
    """What tells a model from others; see :class:`proxylesskd.recognition.model.RecognitionModel`."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    @property
    def identity(self) -> str:
        """Hash of its weights, or of weights and preprocessing."""
        ...

    @property
    def hashes(self) -> frozenset[str]:
        """All hashes it is known by."""
        ...

    @property
    def fingerprint(self) -> str | None:
        """Hash of weights and preprocessing, where it is known."""
        ...


def read_scales(path: str | Path, model: Known | None = None) -> dict[str, Scale]:
    """Read what an evaluation found: ``evaluation.json``, or the folder that holds it.

    Args:
        path: of the file or its folder.
        model: which it must be of, as far as the evaluation says it.

    Returns:
        By mode, ``"single"`` and where there is one ``"cross"``.

    Raises:
        UserError: nothing stands there, or not what an evaluation writes, or it is of another model or of another
            preprocessing.
    """
    path = Path(path)
    file = path / "evaluation.json" if path.is_dir() else path
    told = read_json(file)
    if told is None:
        raise UserError(
            f"expected an evaluation at '{file}', found none; make one with: proxylesskd evaluate MODEL PAIRS --out "
            "FOLDER"
        )
    if model is not None:
        _check_maker(told, file, model)
    try:
        return {mode: _evaluated(told[mode]) for mode in (SINGLE, CROSS) if mode in told}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"expected what an evaluation writes in '{file}', found {error!r}; evaluate again") from error


def _check_maker(told: Mapping[str, Any], file: Path, model: Known) -> None:
    """Stop where similarities that were evaluated are not those that the model gives."""
    made = told.get("made_by")
    made = made if isinstance(made, Mapping) else {}
    fingerprint, both = made.get("fingerprint"), bool(made.get("fingerprint") and model.fingerprint)
    if made.get("weights") == model.identity or (both and fingerprint == model.fingerprint):
        return
    if not both and "file" not in made:  # nothing that both of them say
        return
    found = f"one of '{told.get('model')}'"
    if made.get("file") in model.hashes and isinstance(made.get("preprocessing"), Mapping):
        how = ", ".join(f"{key}={value}" for key, value in made["preprocessing"].items())
        found = f"one of the same weights with other preprocessing ({how})"
    raise UserError(
        f"expected an evaluation of '{model.name}' in '{file}', found {found}: its thresholds mean nothing here; make "
        "one with: proxylesskd evaluate MODEL PAIRS --out FOLDER"
    )


def _evaluated(told: Mapping[str, Any]) -> Scale:
    rates = {str(rate["far"]): rate["threshold"] for rate in told["tar"] if rate["threshold"] is not None}
    return scale_of(rates, told.get("calibration"))


def threshold_for(scale: Scale, far: float, *, what: str) -> float:
    """Return the threshold of a false accept rate.

    Args:
        scale: of the model.
        far: in (0, 1].
        what: the model and the mode, for messages.

    Raises:
        UserError: the rate is none, or no threshold is known for it; the message says what to give.
    """
    if not 0 < far <= 1:
        raise UserError(f"expected a false accept rate in (0, 1], found {far:g}")
    found = scale.at(far)
    if found is not None:
        return found
    known = ", ".join(far_name(rate) for rate in sorted(scale.thresholds, reverse=True))
    have = f"thresholds for FAR {known} alone" if known else "no thresholds"
    raise UserError(
        f"expected a threshold of {what} for FAR {far_name(far)}, found {have}; give --threshold, or --calibration "
        "with a list of pairs or with the folder of an evaluation (proxylesskd evaluate MODEL PAIRS --out FOLDER)"
    )


@dataclass(frozen=True)
class OpenSet:
    """The threshold below which a search names nobody.

    Attributes:
        threshold: of the similarity.
        far: false accept rate of one comparison there; None where the threshold was given.
        strangers: upper bound of the share of strangers who are named: rate times photos; None likewise.
        reached: whether the bound is as low as it was asked for.
    """

    threshold: float
    far: float | None = None
    strangers: float | None = None
    reached: bool = True


def open_set_threshold(scale: Scale, photos: int, fpir: float, *, what: str) -> OpenSet:
    """Choose the threshold of a search among so many enrolled photos.

    A stranger is compared with every photo, and named if any comparison is falsely accepted: at most FAR times photos
    of the strangers are (the union bound, which holds however the comparisons depend on each other). The lowest
    threshold that keeps this below ``fpir`` is taken; where none is known to, the highest known one.

    Args:
        scale: thresholds of single comparisons.
        photos: enrolled, at least one.
        fpir: share of strangers that may be named, in (0, 1].
        what: the model and the mode, for messages.

    Raises:
        UserError: ``fpir`` is no share, or no threshold is known.
    """
    if not 0 < fpir <= 1:
        raise UserError(f"expected a share of strangers in (0, 1], found {fpir:g}")
    if not scale.thresholds:
        threshold_for(scale, fpir / max(photos, 1), what=what)
    strictest = min(scale.thresholds)
    far = max((far for far in scale.thresholds if far * photos <= fpir * (1 + 1e-9)), default=strictest)
    bound = min(far * photos, 1.0)
    return OpenSet(scale.thresholds[far], far, bound, reached=bound <= fpir * (1 + 1e-9))
