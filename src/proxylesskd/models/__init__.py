"""Room 2: networks: backbones by name, their preprocessing and their weights."""

from proxylesskd.models import iresnet, mobilefacenet  # these register their names
from proxylesskd.models.registry import (
    ModelSpec,
    create_model,
    list_models,
    memory_format_of,
    register_model,
    spec_of,
)

__all__ = [
    "ModelSpec",
    "create_model",
    "iresnet",
    "list_models",
    "memory_format_of",
    "mobilefacenet",
    "register_model",
    "spec_of",
]
