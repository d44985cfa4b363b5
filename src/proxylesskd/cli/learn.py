"""Verbs that make a teacher, a classifier and a student."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxylesskd.cli.app import app
from proxylesskd.cli.options import Out, Overrides, Quiet, RecipeFile, Resume, Store

if TYPE_CHECKING:
    from proxylesskd.runs import Run


@app.command()
def train(
    out: Out, overrides: Overrides = None, recipe: RecipeFile = None, resume: Resume = False, quiet: Quiet = False
) -> None:
    """Train a backbone with its own classifier: a teacher, or a baseline. Needs data.train=…"""
    from proxylesskd import runs
    from proxylesskd.recipe import load_recipe

    settings = load_recipe(recipe, ["method.name=alone", *(overrides or [])])
    _close_run(runs.train(settings, out, resume=resume, quiet=quiet))


@app.command()
def inherit(
    teacher: Annotated[
        str, typer.Argument(help="Checkpoint, folder of shards, run folder or ONNX, such as t.onnx:mean=127,std=128.")
    ],
    out: Out,
    data: Annotated[str | None, typer.Option(help="Source whose identities get a row.")] = None,
    keep: Annotated[Path | None, typer.Option(help="List of the images of --data to use.")] = None,
    rows: Annotated[str | None, typer.Option(help="Estimate them: mean, robust or fitted.")] = None,
    key: Annotated[str | None, typer.Option(help="Tensor of a checkpoint that is the last layer.")] = None,
    transposed: Annotated[
        bool | None, typer.Option("--transposed/--no-transposed", help="That tensor stands [D, C].")
    ] = None,
    names: Annotated[Path | None, typer.Option(help="Names of the checkpoint's rows, one a line.")] = None,
    images_per_identity: Annotated[int, typer.Option(help="Images that make a row; 0 for all.")] = 0,
    embeddings: Annotated[Path | None, typer.Option(help="Folder to keep the teacher's embeddings in.")] = None,
    extend: Annotated[Path | None, typer.Option(help="Classifier whose rows stay; new identities follow.")] = None,
    merge: Annotated[Path | None, typer.Option(help="Classifier of the same teacher, joined by name.")] = None,
    concatenate: Annotated[Path | None, typer.Option(help="Classifier of another teacher, joined by name.")] = None,
    same_space: Annotated[bool, typer.Option("--same-space", help="Both are of one teacher: my word for it.")] = False,
    dim: Annotated[int, typer.Option(help="Project to a smaller student; 0 for the teacher's dimension.")] = 0,
    projection: Annotated[str, typer.Option(help="By cosine, principal, truncation or random.")] = "cosine",
    audit: Annotated[bool, typer.Option("--audit/--no-audit", help="Refuse rows that do not belong.")] = True,
    mend: Annotated[bool, typer.Option("--mend", help="Put rows right whose order the audit proves.")] = False,
    clean: Annotated[Path | None, typer.Option(help="List of images to write, without suspected wrong labels.")] = None,
    store: Store = "float32",
    quiet: Quiet = False,
) -> None:
    """Make the inherited classifier: the teacher's last layer if it has one, else rows estimated over --data."""
    from proxylesskd.classifier.inherit import check_rows
    from proxylesskd.front_door import inherit_into
    from proxylesskd.obtain import read_names
    from proxylesskd.processes import rank_and_world

    found = inherit_into(
        out,
        teacher,
        data=data,
        keep=keep,
        rows=None if rows is None else check_rows(rows),
        key=key,
        transposed=transposed,
        names=None if names is None else read_names(names),
        images_per_identity=images_per_identity,
        embeddings=embeddings,
        extend_with=extend,
        merge_with=merge,
        concatenate_with=concatenate,
        same_space=same_space,
        dim=dim,
        projection=projection,
        audit=audit,
        mend=mend,
        clean=clean,
        store=store,
        progress=not quiet,
    )
    if rank_and_world()[0]:
        return
    for line in found.lines():
        typer.echo(line)
    count, width = found.classifier.stored.shape
    said = found.classifier.provenance
    typer.echo(f"{count} identities x {width}, {said.get('kind', said['how'])}: {out}")


@app.command()
def compact(
    classifier: Annotated[Path, typer.Argument(help="File of an inherited classifier.")],
    out: Out,
    store: Store = "int8",
) -> None:
    """Store the rows of a classifier in another way, block by block: int8 takes half of float32, bfloat16 3/4."""
    from proxylesskd.classifier.compact import compact as convert

    made = convert(classifier, store, out)
    count, width = made.stored.shape
    typer.echo(f"{count} identities x {width} as {made.store}, {out.stat().st_size / 2**30:.2f} GiB: {out}")


@app.command()
def distill(
    out: Out,
    overrides: Overrides = None,
    classifier: Annotated[Path | None, typer.Option("--classifier", "-c", help="The inherited classifier.")] = None,
    recipe: RecipeFile = None,
    teacher: Annotated[str | None, typer.Option(help="For the audit: embeds a sample of the faces.")] = None,
    audit: Annotated[bool, typer.Option("--audit/--no-audit", help="Stop where rows and faces do not match.")] = True,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train a student through the inherited classifier (ProxylessKD). Needs data.train=…"""
    from proxylesskd import runs
    from proxylesskd.recipe import load_recipe

    given = {"classifier": classifier, "teacher": teacher}
    changes = [f"method.{key}={value}" for key, value in given.items() if value is not None]
    settings = load_recipe(recipe, [*changes, *(overrides or [])])
    _close_run(runs.distill(settings, out, audit=audit, resume=resume, quiet=quiet))


def _close_run(run: Run) -> None:
    """Say what stands where; an interrupted run is not an error, but it is not finished either."""
    from proxylesskd.processes import leave, rank_and_world
    from proxylesskd.report.page import write_report

    rank, _ = rank_and_world()
    leave()
    if rank > 0:
        return
    if not run.result.finished:
        typer.echo(f"stopped at step {run.result.step} of {run.result.steps}; go on with --resume")
        return
    for finding in [] if run.audit is None else run.audit.warnings:
        typer.echo(f"warning: {finding.message}")
    typer.echo(run.data)
    typer.echo(f"report: {write_report(run.folder)}")
