"""Synthetic faces as a data source: rendered when they are read, nothing on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError, nearest
from proxylesskd.synthetic.faces import check_counts, face_jpeg, require_packages

DEFAULTS = {"identities": 200, "images": 20, "seed": 0, "first": 0}


def identity_name(number: int) -> str:
    """Return the name of an identity, which is also the name of its folder."""
    return f"id-{number:05d}"


@dataclass(frozen=True)
class SyntheticSource:
    """``count`` identities from number ``first`` on, ``images`` pictures of each (a `Source`)."""

    count: int
    images: int
    seed: int = 0
    first: int = 0

    @classmethod
    def parse(cls, where: str) -> SyntheticSource:
        """Read ``identities=200,images=20,seed=0,first=0``; what is left out has these values.

        Raises:
            UserError: an unknown key, a value that is no whole number, a negative or zero count, or a
                package of the extra ``synthetic`` is missing.
        """
        values = dict(DEFAULTS)
        for pair in filter(None, (part.strip() for part in where.split(","))):
            key, equals, value = (text.strip() for text in pair.partition("="))
            if key not in DEFAULTS:
                raise UserError(
                    f"expected synthetic:{','.join(f'{k}={v}' for k, v in DEFAULTS.items())}, "
                    f"found the key '{key}'{nearest(key, DEFAULTS)}"
                )
            if not equals or not value.lstrip("-").isdigit():
                raise UserError(f"expected a whole number for '{key}', found '{value}'; write {key}={DEFAULTS[key]}")
            values[key] = int(value)
        check_counts(**values)
        if not values["identities"] or not values["images"]:
            raise UserError("expected at least 1 identity and 1 image, found 0; raise identities or images")
        require_packages()
        return cls(values["identities"], values["images"], values["seed"], values["first"])

    @property
    def identities(self) -> Sequence[str]:
        """Names of the identities, in the order of their labels."""
        return [identity_name(self.first + i) for i in range(self.count)]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """[N] int64, the label of every image."""
        return np.repeat(np.arange(self.count, dtype=np.int64), self.images)

    def __len__(self) -> int:
        """Return the number of images N."""
        return self.count * self.images

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return divmod(index, self.images)

    def read(self, index: int) -> tuple[bytes, int]:
        """Return image ``index`` as JPEG, rendered now, and its label."""
        label, image = self._place(index)
        return face_jpeg(self.seed, self.first + label, image), label

    def name(self, index: int) -> str:
        """Return the path that `synthesize` would give the image."""
        label, image = self._place(index)
        return f"{identity_name(self.first + label)}/{image:03d}.jpg"
