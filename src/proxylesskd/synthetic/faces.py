"""Encoded synthetic faces by number: each a pure function of (seed, identity, image)."""

from __future__ import annotations

from functools import lru_cache

from proxylesskd.errors import UserError, require_extra


def require_packages() -> None:
    """Check that everything the renderer needs is installed, before any work begins.

    Raises:
        UserError: naming the missing package and the command that installs it.
    """
    import importlib.util

    for module, package in (("anny", "anny"), ("numba", "numba"), ("cv2", "opencv-python-headless")):
        if importlib.util.find_spec(module) is None:
            raise require_extra(package, "synthetic", "rendering synthetic faces")


def check_counts(**counts: int) -> None:
    """Check that counts and the seed are whole numbers that are not negative.

    Raises:
        UserError: naming the first that is.
    """
    for name, value in counts.items():
        if value < 0:
            raise UserError(f"expected {name.replace('_', ' ')} of at least 0, found {value}")


@lru_cache(maxsize=64)  # about 2 MB each
def _person(seed: int, identity: int) -> object:
    from proxylesskd.synthetic.head import load_head
    from proxylesskd.synthetic.person import draw_person

    return draw_person(load_head(), seed, identity)


def face_jpeg(seed: int, identity: int, image: int) -> bytes:
    """Return one aligned 112x112 face as JPEG; the same three numbers always give the same bytes.

    Raises:
        UserError: a package of the extra ``synthetic`` is missing.
    """
    require_packages()
    from proxylesskd.synthetic.head import load_head
    from proxylesskd.synthetic.person import Person
    from proxylesskd.synthetic.photograph import encode
    from proxylesskd.synthetic.render import render
    from proxylesskd.synthetic.variation import draw_variation

    person = _person(seed, identity)
    assert isinstance(person, Person)
    return encode(render(load_head(), person, draw_variation(seed, identity, image, person.wears_glasses)))
