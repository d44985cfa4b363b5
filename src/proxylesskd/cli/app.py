"""The command itself: its help, its version, and how an error ends it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from proxylesskd.errors import EndedElsewhere, UserError, needing_training

_MANY = ("--methods", "--seeds", "--students")
_SETTING = re.compile(r"(seed|[a-z]+\.[a-z_0-9]+)=")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from proxylesskd import __version__

        typer.echo(f"proxylesskd {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say it.")] = False,
) -> None:
    """Distil a large face-recognition model into a small one that lives in its embedding space."""


def spread(arguments: Sequence[str]) -> Iterator[str]:
    """Repeat an option that takes many values before each of them: ``--seeds 0 1`` is ``--seeds 0 --seeds 1``.

    The values end before the next option, and before a setting such as ``train.steps=100``.
    """
    option = ""
    for word in arguments:
        if word.startswith("-"):
            option = word if word in _MANY else ""
            if not option:
                yield word
        elif option and not _SETTING.match(word):
            yield from (option, word)
        else:
            option = ""
            yield word


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; wrong input is one line on standard error and exit code 2."""
    from proxylesskd.training.allocator import keep_freed_memory

    keep_freed_memory()
    try:
        with needing_training("this command"):
            code: Any = app(list(spread(sys.argv[1:] if arguments is None else arguments)), standalone_mode=True)
    except EndedElsewhere:
        sys.exit(2)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(code)
