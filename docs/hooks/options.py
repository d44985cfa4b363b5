"""A hook of mkdocs: the table of a verb's options, made from the command itself, where its page has the marker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

MARKER = "<!-- options -->"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the page with the table of the verb that it is named after in place of the marker."""
    if MARKER not in markdown:
        return markdown
    return markdown.replace(MARKER, options_of(PurePosixPath(page.file.src_uri).stem))


def options_of(verb: str) -> str:
    """Return the tables of a verb's arguments and options in Markdown; KeyError where there is no such verb."""
    import typer

    from proxylesskd.cli import app

    found: Any = typer.main.get_command(app)
    return "\n\n".join(_section(name, command) for name, command in _leaves(verb, found.commands[verb]))


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield the commands below a group with their whole names, or the command itself."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for below, one in command.commands.items():
        yield from _leaves(f"{name} {below}", one)


def _section(name: str, command: Any) -> str:
    head = f"### {name}\n\n" if " " in name else ""
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    if not shown:
        return f"{head}None."
    rows = [_row(parameter) for parameter in sorted(shown, key=_is_option)]
    return head + "\n".join(["| name | default | what it is |", "|---|---|---|", *rows])


def _is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")


def _row(parameter: Any) -> str:
    cells = (_name(parameter), _default(parameter), parameter.help or "")
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _name(parameter: Any) -> str:
    if not _is_option(parameter):
        return f"`{_shouted(parameter)}`"
    return ", ".join(f"`{word}`" for word in [*parameter.opts, *parameter.secondary_opts])


def _shouted(parameter: Any) -> str:
    """Return an argument as help names it, with dots where it takes several words."""
    return str(parameter.name).upper() + (" …" if parameter.nargs == -1 else "")


def _default(parameter: Any) -> str:
    """Return what holds unless it is told; options whose own help says so have none of click's."""
    if parameter.required:
        return "required"
    if parameter.default is None or parameter.default is False or parameter.default == []:
        return ""
    return f"`{_written(parameter.default)}`"


def _written(default: Any) -> str:
    if default is True:
        return "on"
    return str(getattr(default, "value", default))
