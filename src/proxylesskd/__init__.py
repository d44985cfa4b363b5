"""ProxylessKD: small face-recognition students inside a large teacher's embedding space.

>>> import proxylesskd as pk
>>> pk.list_models()[:2]
['iresnet100', 'iresnet18']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from proxylesskd.errors import needing_training

__version__ = "0.1.0"

# Everything is imported when it is first touched, so that `import proxylesskd` costs nothing.
_HOMES = {
    "proxylesskd.classifier.classifier": ("InheritedClassifier",),
    "proxylesskd.audit.audit": ("audit_classifier",),
    "proxylesskd.classifier.compact": ("compact",),
    "proxylesskd.classifier.combine": ("concatenate", "extend", "merge"),
    "proxylesskd.classifier.embed_source": ("embed_source",),
    "proxylesskd.classifier.from_checkpoint": ("inherit_from_checkpoint",),
    "proxylesskd.classifier.inherit": ("inherit", "inherit_embedded"),
    "proxylesskd.classifier.project": ("project",),
    "proxylesskd.front_door": ("inherit_into",),
    "proxylesskd.obtain": ("inherit_best",),
    "proxylesskd.data.convert": ("convert",),
    "proxylesskd.data.pairs": ("Pairs", "make_pairs", "read_pairs", "write_bin", "write_pairs_csv"),
    "proxylesskd.data.source": ("open_source",),
    "proxylesskd.comparison.compare": ("compare",),
    "proxylesskd.comparison.result": ("Comparison",),
    "proxylesskd.errors": ("UserError",),
    "proxylesskd.estimation.estimate": ("Estimate", "estimate"),
    "proxylesskd.evaluation": ("Evaluation", "evaluate", "paired_difference"),
    "proxylesskd.finish": ("evaluate_into", "export_run"),
    "proxylesskd.inspection.inspect": ("Inspection", "inspect_source"),
    "proxylesskd.losses.frozen_softmax": ("frozen_softmax",),
    "proxylesskd.losses.adaptive_margin": ("AdaFace", "CurricularFace", "MagFace"),
    "proxylesskd.losses.engines.neighbours": ("Neighbours",),
    "proxylesskd.losses.engines.sharded": ("Sharded",),
    "proxylesskd.losses.margin": ("ArcFace", "Combined", "CosFace", "SampleMargin"),
    "proxylesskd.losses.nearest_rows": ("find_nearest",),
    "proxylesskd.losses.rows": ("quantise", "split"),
    "proxylesskd.models.preprocess": ("Preprocessing",),
    "proxylesskd.models.registry": ("create_model", "list_models", "register_model"),
    "proxylesskd.models.weights": ("load_model", "save_model"),
    "proxylesskd.protocols.outcome": ("Outcome",),
    "proxylesskd.protocols.take": ("take_protocol",),
    "proxylesskd.photos.align": ("Alignment", "align_photos"),
    "proxylesskd.recognition.compatible": ("Compatibility", "compatible"),
    "proxylesskd.recognition.gallery": ("Gallery",),
    "proxylesskd.recognition.recognizer": ("Recognizer", "verify"),
    "proxylesskd.recipe": ("Recipe", "load_recipe"),
    "proxylesskd.report.page": ("write_report",),
    "proxylesskd.runs": ("distill", "train"),
    "proxylesskd.teacher": ("load_teacher",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted([*_HOME_OF, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'proxylesskd' has no attribute '{name}'")
    with needing_training(f"proxylesskd.{name}"):
        return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from proxylesskd.classifier.classifier import InheritedClassifier as InheritedClassifier
    from proxylesskd.classifier.inherit import inherit as inherit
    from proxylesskd.losses.frozen_softmax import frozen_softmax as frozen_softmax
    from proxylesskd.losses.margin import ArcFace as ArcFace
    from proxylesskd.losses.margin import CosFace as CosFace
    from proxylesskd.models.registry import create_model as create_model
    from proxylesskd.teacher import load_teacher as load_teacher
