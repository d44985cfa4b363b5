"""From the name of a margin, as recipes spell it, to the margin."""

from __future__ import annotations

from proxylesskd.errors import UserError, nearest
from proxylesskd.losses.adaptive_margin import AdaFace, CurricularFace, MagFace
from proxylesskd.losses.margin import ArcFace, Combined, CosFace, Margin, require_gradient_kind
from proxylesskd.own import import_own, is_own

NAMES = ("arcface", "cosface", "combined", "adaface", "magface", "curricularface", "none")
_EITHER_GRADIENT = ("arcface", "combined")


def make_margin(
    name: str,
    m: float,
    gradient: str = "analytic",
    *,
    m1: float = 1.0,
    m3: float = 0.0,
    m_high: float = 0.8,
    penalty: float = 35.0,
    concentration: float = 0.333,
) -> Margin:
    """Build a margin.

    Args:
        name: one of :data:`NAMES`; ``"none"`` is a plain scaled softmax. Or ``package.module:Class`` of the user's own,
            which is called with ``m``.
        m: the margin: radians for ArcFace and CurricularFace, cosine for CosFace, ``m2`` of the combined one, ``m`` of
            AdaFace, ``m_low`` of MagFace; ignored for none.
        gradient: ``"analytic"`` or, for ArcFace and the combined margin, ``"straight-through"``.
        m1: of the combined margin, factor of the angle.
        m3: of the combined margin, taken from the cosine.
        m_high: of MagFace, margin of the longest embeddings.
        penalty: of MagFace, ``λ``.
        concentration: of AdaFace, ``h``.

    Raises:
        UserError: the name or the gradient is unknown (the nearest is named), a margin is out of range, or the margin
            knows one gradient alone.
    """
    require_gradient_kind(gradient)
    if is_own(name):
        own: Margin = import_own(name)(m)
        return own
    if name not in NAMES:
        known = f"{', '.join(NAMES)} or package.module:Class"
        raise UserError(f"expected one of the margins {known}, found '{name}'{nearest(name, NAMES)}")
    if gradient != "analytic" and name not in _EITHER_GRADIENT:
        raise UserError(f"expected margin arcface or combined with a {gradient} gradient, found '{name}'")
    if name in ("cosface", "none"):
        return CosFace(m if name == "cosface" else 0.0)
    if name == "arcface":
        return ArcFace(m, gradient)  # type: ignore[arg-type]  # checked above
    if name == "combined":
        return Combined(m1, m, m3, gradient)  # type: ignore[arg-type]
    if name == "adaface":
        return AdaFace(m, concentration)
    return MagFace(m, m_high, penalty=penalty) if name == "magface" else CurricularFace(m)
