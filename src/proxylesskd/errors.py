"""The one error that users see: what was expected, what was found, how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Wrong input. The command line prints its message as one line and exits with code 2.

    A message names what was expected, what was found and how to mend it. What it quotes may come from anywhere: names
    of files hold line breaks, control sequences of terminals, or bytes that are no text. So whatever cannot be printed
    is spelt out, and the middle of what no screen holds is left out.
    """

    LONGEST = 2000

    def __str__(self) -> str:
        text = super().__str__()
        text = text if text.isprintable() else "".join(map(_spelt, text))
        cut = self.LONGEST // 2
        return text if len(text) <= self.LONGEST else f"{text[:cut]} … {text[-cut:]}"


def _spelt(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


class CorruptImageError(UserError):
    """Bytes that are no decodable image. Training counts, reports and survives it."""


class EndedElsewhere(UserError):
    """Another of several processes failed and has said why: this one has nothing to add."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def require_extra(package: str, extra: str, purpose: str) -> UserError:
    """Return the error for a missing optional package: what needs it and the command that installs it."""
    return UserError(f"{purpose} needs the package '{package}': pip install 'proxylesskd[{extra}]'")


def require_package(package: str, purpose: str) -> UserError:
    """Return the error for a missing package of the installation itself, and the command that installs it."""
    return UserError(f"{purpose} needs the package '{package}': pip install {package}")


# What the extra "train" brings, by the name under which it is imported.
TRAINING = {"torch": "torch", "jinja2": "jinja2", "matplotlib": "matplotlib"}


@contextmanager
def needing_training(purpose: str) -> Iterator[None]:
    """Turn the absence of PyTorch, or of another package of the extra "train", into the error that names the extra.

    The installation without extras uses exported files only: it has no PyTorch.

    Raises:
        UserError: such a package is imported inside and is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = TRAINING.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        raise require_extra(package, "train", purpose) from error
