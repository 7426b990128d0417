"""`nearvote examples`."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Annotated

import typer

from nearvote.cli.output import (
    ADDRESS,
    Address,
    Bar,
    Exit,
    Json,
    encodable,
    err,
    fail,
    moment,
    out,
    print_json,
    print_table,
    service,
    shortened,
    write_whole,
)
from nearvote.client.errors import ClientError
from nearvote.client.sync import Client
from nearvote.errors import NearvoteError
from nearvote.examples.example import Draft, Example
from nearvote.examples.files import ExampleFile, example_to_line, looks_like_csv
from nearvote.limits import Limits, check_text

app = typer.Typer(help="Add, import, export, list, search and delete examples.", no_args_is_help=True)

_LONGEST_HEADER = 4096  # bytes
_CHUNK = 128  # examples a message of an import; each is acknowledged
_ITEM_OVERHEAD = 1024  # bytes that an example's other fields may take in a message
_SHOWN_PROBLEMS = 20

Task = Annotated[str, typer.Option("--task", "-t", help="Their task.")]
OnlyLabel = Annotated[str, typer.Option("--label", "-l", help="Only those with this label.")]


@app.command()
def add(
    text: Annotated[str, typer.Argument(metavar="TEXT")],
    task: Task,
    label: Annotated[list[str], typer.Option("--label", "-l", help="Its label; several in a multi-label task.")],
    weight: Annotated[float, typer.Option(help="How much its vote counts, 0.001 to 100.")] = 1.0,
    source: Annotated[str, typer.Option(help="Where it comes from.")] = "",
    subject: Annotated[str, typer.Option(help="An id of who the text is about or from.")] = "",
    expires: Annotated[
        int | None, typer.Option(parser=moment, metavar="TIME", help="When it ends, such as 2030-01-31T12:00:00Z.")
    ] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """Add an example, or relabel the one with this text. It votes in the very next prediction."""
    with service(address) as client:
        saved = client.add_example(
            task,
            encodable(text),
            [encodable(one) for one in label],
            weight=weight,
            source=encodable(source),
            subject=encodable(subject),
            expires_us=expires,
        )
    if as_json:
        print_json({**json.loads(example_to_line(saved.example)), "created": saved.created})
    else:
        out.print(f"{'added' if saved.created else 'updated'} {saved.example.id}", highlight=False)


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="JSON Lines, or CSV with a header that has text; - for standard input."),
    ],
    task: Annotated[str, typer.Option("--task", "-t", help="The task of examples that name none.")] = "",
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Import the rest of a file that has invalid lines; else nothing is.")
    ] = False,
    address: Address = ADDRESS,
) -> None:
    """Import examples from a file.

    A JSON line has `text`, `labels` (or `label`), and perhaps `task`, `weight`, `source`, `subject`, `expires`; a CSV
    file has columns of these names, labels separated by |. Importing a file twice is importing it once.
    """
    with _seekable(file) as stream, service(address) as client:
        is_csv = file.suffix.lower() == ".csv" or looks_like_csv(stream.readline(_LONGEST_HEADER))
        if not skip_invalid and _run(client, stream, task, "checking", is_csv=is_csv, validate_only=True)[2]:
            fail("nothing was imported: mend these lines, or import the rest with --skip-invalid", Exit.INVALID_LINES)
        valid, created, invalid = _run(client, stream, task, "importing", is_csv=is_csv, validate_only=False)
    out.print(f"{valid} examples imported, {created} of them new; {invalid} lines invalid", highlight=False)
    raise typer.Exit(Exit.INVALID_LINES if invalid else Exit.DONE)


@app.command()
def export(
    task: Task,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; standard output when not given.")
    ] = None,
    address: Address = ADDRESS,
) -> None:
    """Export all examples of a task as JSON Lines, as `import` takes them."""
    with service(address) as client:
        examples = client.export_examples(task)
        if output is None:
            for example in examples:
                sys.stdout.write(example_to_line(example) + "\n")
            return
        count = write_whole(output, map(example_to_line, examples))
    out.print(f"{count} examples exported to {output}", highlight=False)


@app.command("list")
def list_(
    task: Task,
    label: OnlyLabel = "",
    source: Annotated[str, typer.Option(help="Only those from this source.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """List a task's examples, in the order of their ids."""
    with service(address) as client:
        examples = list(islice(client.list_examples(task, label=label, source=source), limit + 1))
    _show([(example, None) for example in examples[:limit]], as_json=as_json)
    if len(examples) > limit:
        err.print(f"there are more: these are the first {limit}, and --limit shows others", highlight=False)


@app.command()
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT")],
    task: Task,
    label: OnlyLabel = "",
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """Find the examples nearest to a text, nearest first."""
    with service(address) as client:
        found = client.search_examples(task, encodable(text), label=label, limit=limit)
    _show([(one.example, one.similarity) for one in found], as_json=as_json)


@app.command()
def delete(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, as `list` and `classify --json` show them.")
    ] = None,
    task: Annotated[str, typer.Option("--task", "-t", help="Their task; with a source or a subject all tasks.")] = "",
    source: Annotated[str, typer.Option(help="All that come from here.")] = "",
    subject: Annotated[str, typer.Option(help="All that are about or from whom this id stands for.")] = "",
    address: Address = ADDRESS,
) -> None:
    """Delete examples: their texts, their vectors and their votes.

    Name them by their ids and task, or by source or subject.
    """
    selected = bool(source or subject)
    if selected == bool(ids) or (ids and not task):
        fail("name ids and their --task, or a --source or --subject", Exit.USAGE)
    with service(address) as client:
        if selected:
            erased = client.delete_examples(task=task, source=encodable(source), subject=encodable(subject))
            out.print(f"{erased.example_count} examples deleted", highlight=False)
            for name in erased.fitted_tasks:
                out.print(f"{name}: fit it again to unlearn them", highlight=False)
        for id_ in ids or ():
            client.delete_example(task, id_)
            out.print(f"deleted {id_}", highlight=False)


def _run(
    client: Client, stream: IO[bytes], task: str, what: str, *, is_csv: bool, validate_only: bool
) -> tuple[int, int, int]:
    """Sends a file through the service. Returns how many lines were valid, new, and invalid."""
    stream.seek(0)
    line_count = sum(1 for _ in stream)
    stream.seek(0)
    bar = Bar(f"{what}, lines")
    limits = client.info().limits
    source = ExampleFile(stream, task, is_csv=is_csv)
    problems: list[tuple[int, str]] = []
    valid = created = 0

    def drafts() -> Iterator[tuple[int, Draft]]:
        for line, draft in source:
            try:
                if isinstance(draft, NearvoteError):
                    raise draft
                check_text(draft.text, limits, field="text")  # here: a line may be too large to be sent at all
                yield line, draft
            except NearvoteError as error:
                problems.append((line, error.message))

    try:
        for progress in client.import_examples(_chunks(drafts(), limits), validate_only=validate_only):
            valid += progress.accepted_count
            created += progress.created_count
            problems += [(line, str(error)) for line, error in progress.rejections.items()]
            bar(progress.last_line, line_count)
    except (ClientError, KeyboardInterrupt):
        if not validate_only:
            err.print(f"{valid} examples were stored before this; importing the file again adds the rest")
        raise
    finally:
        bar.close()
    _tell(problems, source.ignored_fields)
    return valid, created, len(problems)


def _tell(problems: list[tuple[int, str]], ignored_fields: set[str]) -> None:
    """What is wrong with a file, line by line, and what in it means nothing here."""
    if ignored_fields:
        err.print(f"ignored fields: {', '.join(sorted(ignored_fields))}", markup=False, highlight=False)
    for line, message in sorted(problems)[:_SHOWN_PROBLEMS]:
        err.print(f"line {line}: {message}", style="red", markup=False, highlight=False)
    if len(problems) > _SHOWN_PROBLEMS:
        err.print(f"and {len(problems) - _SHOWN_PROBLEMS} more", style="red", highlight=False)


def _chunks(items: Iterator[tuple[int, Draft]], limits: Limits) -> Iterator[list[tuple[int, Draft]]]:
    """Items in messages that the service takes: neither too many nor too large."""
    chunk: list[tuple[int, Draft]] = []
    size = 0
    for line, draft in items:
        item_size = len(draft.text.encode()) + _ITEM_OVERHEAD
        if chunk and (len(chunk) >= min(_CHUNK, limits.max_batch_texts) or size + item_size > limits.max_request_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append((line, draft))
        size += item_size
    if chunk:
        yield chunk


@contextmanager
def _seekable(file: Path) -> Iterator[IO[bytes]]:
    """The file, to be read more than once; standard input or a pipe is copied to a file of its own."""
    with ExitStack() as stack:
        try:
            stream: IO[bytes] = sys.stdin.buffer if str(file) == "-" else stack.enter_context(file.open("rb"))
        except OSError as error:
            fail(f"{file} can't be read: {error.strerror}", Exit.USAGE)
        if str(file) == "-" or not stream.seekable():
            copy = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stream, copy)
            copy.seek(0)
            stream = copy
        yield stream


def _show(examples: list[tuple[Example, float | None]], *, as_json: bool) -> None:
    if as_json:
        for example, similarity in examples:
            document = json.loads(example_to_line(example))
            print_json(document if similarity is None else {**document, "similarity": round(similarity, 6)})
        return
    rows = [
        (
            example.id,
            *(() if similarity is None else (f"{similarity:.3f}",)),
            ", ".join(example.labels),
            shortened(example.text),
        )
        for example, similarity in examples
    ]
    scored = any(similarity is not None for _, similarity in examples)
    print_table("", ("id", *(("similarity",) if scored else ()), "labels", "text"), rows)
