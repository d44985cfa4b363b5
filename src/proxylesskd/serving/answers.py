"""What the service takes and answers beside the plain values of :mod:`proxylesskd.recognition.answers`."""

from __future__ import annotations

from typing import Any

from pydantic import Base64Bytes, BaseModel, Field


class Health(BaseModel):
    """That the service runs."""

    status: str = "ok"


class Model(BaseModel):
    """The model, and what its similarities mean."""

    name: str
    identity: str = Field(description="sha256 of its weights; a gallery keeps it")
    dim: int
    thresholds: dict[str, dict[str, float]] = Field(
        description="single (both photos by this model) or cross (the gallery by its teacher) -> false accept rate -> "
        "the least similarity of one person"
    )
    teacher: dict[str, Any] = Field(description="whose galleries it may search")
    version: str = Field(description="of proxylesskd")


class Embedding(BaseModel):
    """A face as a point: unit length, cosines are similarities."""

    embedding: list[float]
    model: str


class Pair(BaseModel):
    """Two photos (JPEG, PNG, BMP or WebP), each in base64."""

    first: Base64Bytes
    second: Base64Bytes


class Enrolled(BaseModel):
    """Whose photo was enrolled, and whether it is new to them."""

    identity: str
    new: bool


class Removed(BaseModel):
    """How many photos were erased."""

    identity: str
    photos: int
