"""`nearvote map`."""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from nearvote.cli.output import ADDRESS, Address, Bar, Exit, encodable, endings, err, fail, out, service, shortened
from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Matrix
from nearvote.examples.example import Example
from nearvote.learn.drawing import FORMATS, draw
from nearvote.learn.layout import MAX_POINTS, lay_out, random_vectors, sample, silhouette
from nearvote.learn.picture import MapMessage, MapPanel, MapPicture, score_text
from nearvote.settings import Settings, read_settings
from nearvote.startup_errors import InvalidSetting
from nearvote.tasks.task import Task
from nearvote.voting.prediction import Prediction
from nearvote.voting.prototypes import mean_vector

_MOST_MESSAGES = 20
_CHUNK = 256  # texts that are embedded between two moves of the progress bar
_SHOWN_LETTERS = 300
_RANDOM = "random vectors"


def map_(
    task: Annotated[str, typer.Option("--task", "-t", help="The task whose examples are drawn.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture: a file that ends in .png or .svg.")],
    message: Annotated[
        list[str] | None, typer.Option("--message", "-m", help="A message to mark, with lines to its neighbours.")
    ] = None,
    messages: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Messages to mark, one a line; - for standard input.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Another encoder to draw beside, and random vectors with it."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The encoder: hub id, or folder; the settings' one when not given.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_POINTS, help="Examples to draw at most.")] = 3_000,
    address: Address = ADDRESS,
) -> None:
    """Draw a task's examples as a map: near ones are near in meaning, and each label has an outline.

    The texts are embedded in this process, so a model can be tried out before the service is changed to it. Messages
    are labelled by the service, and the lines lead to the examples that voted there.
    """
    if output.suffix.lower().removeprefix(".") not in FORMATS:
        fail(f"{output} has to end in .png or .svg", Exit.USAGE)
    if not output.parent.is_dir():
        fail(f"{output} can't be written: there is no folder {output.parent}", Exit.USAGE)
    texts = [encodable(text) for text in message or ()] + (_lines(messages) if messages else [])
    if len(texts) > _MOST_MESSAGES:
        fail(f"a map shows {_MOST_MESSAGES} messages at most, not {len(texts)}", Exit.USAGE)
    _check_packages()
    settings = _settings(model)
    with service(address) as client:
        asked = client.get_task(task)
        examples = list(client.export_examples(task))
        if not examples:
            fail(f"task '{task}' has no examples to draw; add some with `nearvote examples import`", Exit.FAILED)
        predictions = [client.classify(text, [task]).predictions[0] for text in texts]
        serving = client.info().encoder.model
    if texts and serving != settings.model:
        err.print(
            f"the service runs {serving}: it is there that the neighbours of messages voted",
            markup=False,
            highlight=False,
        )
    models = list(dict.fromkeys([settings.model, *(compare or ())]))
    with endings():
        picture = _picture(asked, examples, texts, predictions, settings, models, limit, compared=bool(compare))
    _write(picture, output)
    _tell(picture, output, len(examples))


def _settings(model: str | None) -> Settings:
    from nearvote.observe.logs import configure_logs  # noqa: PLC0415

    try:
        settings = read_settings({"model": model})
    except InvalidSetting as error:
        fail(error.message, Exit.USAGE)
    configure_logs(settings.log_level, settings.log_format)  # a model's first export is logged
    return settings


def _tell(picture: MapPicture, output: Path, count: int) -> None:

    drawn = len(picture.of_points)
    shown = f"{drawn} examples" if drawn == count else f"{drawn} of {count} examples"
    scores = ", ".join(f"{score_text(panel.silhouette)} with {panel.title}" for panel in picture.panels)
    out.print(f"{output}: {shown}; {scores}", markup=False, highlight=False)


def _lines(file: Path) -> list[str]:
    try:
        whole = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        fail(f"{file} can't be read: {error.strerror}", Exit.USAGE)
    return [line for line in whole.decode("utf-8-sig", errors="replace").split("\n") if line.strip()]


def _check_packages() -> None:
    """Before anything that takes long: a map needs more than the service does."""
    try:
        import matplotlib as mpl  # noqa: PLC0415
        import sklearn  # noqa: PLC0415
    except ImportError as error:
        fail(f"a map takes more packages: pip install 'nearvote[map]' ({error})", Exit.FAILED)
    del mpl, sklearn


def _picture(
    task: Task,
    examples: list[Example],
    texts: list[str],
    predictions: list[Prediction],
    settings: Settings,
    models: list[str],
    limit: int,
    *,
    compared: bool,
) -> MapPicture:

    place_of = {example.id: i for i, example in enumerate(examples)}
    voted = {place_of.get(n.example_id, -1) for prediction in predictions for n in prediction.neighbors} - {-1}
    shown = [examples[i] for i in sample([example.labels[0] for example in examples], limit, voted)]
    wanted = [example.text for example in shown]
    by_model = [asyncio.run(_embed(settings, model, [*wanted, *texts])) for model in models]
    # What one encoder can't read is left out for all, so that all are compared on the same texts.
    readable = [i for i in range(len(wanted)) if all(vectors[i] is not None for vectors in by_model)]
    if not readable:
        fail("the encoder reads nothing in any of the examples", Exit.FAILED)
    shown = [shown[i] for i in readable]
    labels = tuple(example.labels[0] for example in shown)
    panels = []
    for model, vectors in zip(models, by_model, strict=True):
        marks = vectors[len(wanted) :]
        panels.append(_panel(Path(model).name or model, [vectors[i] for i in readable], marks, labels))
    if compared:
        # Messages stay away: where they would lie among random directions means nothing.
        dimension = next(vector.size for vector in by_model[0] if vector is not None)
        drawn = random_vectors(len(shown), dimension)
        panels.append(_panel(_RANDOM, list(drawn), [None] * len(texts), labels, named=False))
    count = f"{len(shown):,}" if len(shown) == len(examples) else f"{len(shown):,} of {len(examples):,}"
    index = {example.id: i for i, example in enumerate(shown)}
    return MapPicture(
        heading=f"{task.name}  ·  {count} examples",
        labels=task.label_names,
        quiet=frozenset({task.benign_label, task.out_of_scope_label} - {""}),
        of_points=labels,
        messages=tuple(_message(*pair, index) for pair in zip(texts, predictions, strict=True)),
        panels=tuple(panels),
    )


def _panel(
    title: str,
    vectors: Sequence[Matrix | None],
    marks: Sequence[Matrix | None],
    labels: tuple[str, ...],
    *,
    named: bool = True,
) -> MapPanel:
    """Lays out examples and messages together; a message that can't be read is nowhere."""
    of_examples = np.stack([vector for vector in vectors if vector is not None])
    of_marks = [vector for vector in marks if vector is not None]
    placed = lay_out(np.stack([*of_examples, *of_marks]))
    messages = np.full((len(marks), 2), np.nan)
    messages[[i for i, vector in enumerate(marks) if vector is not None]] = placed[len(of_examples) :]
    return MapPanel(title, silhouette(of_examples, labels), placed[: len(of_examples)], messages, named)


def _message(text: str, prediction: Prediction, index: dict[str, int]) -> MapMessage:

    reason = prediction.abstention_reason
    answer = f"abstains: {reason.value}" if reason else ", ".join(prediction.labels)
    near = tuple((index[n.example_id], n.share) for n in prediction.neighbors if n.example_id in index)
    return MapMessage(shortened(text, _SHOWN_LETTERS), answer, near)


async def _embed(settings: Settings, model: str, texts: list[str]) -> list[Matrix | None]:
    """One vector for each text: the middle of its windows; None where there is nothing to read."""
    from nearvote.embedding.load import load_encoder  # noqa: PLC0415 - brings the runtime with it, which takes a while

    revision = settings.model_revision if model == settings.model else None
    encoder = load_encoder(model, revision, settings.device, settings.cache_dir, settings.threads)
    batcher = Batcher(encoder)
    embedder = Embedder(encoder, batcher, html=settings.html)
    bar = Bar(f"embedding texts with {model}")
    vectors: list[Matrix | None] = []
    try:
        for start in range(0, len(texts), _CHUNK):
            for windows in (await embedder.embed(texts[start : start + _CHUNK])).windows:
                middle = mean_vector(windows) if len(windows) else None
                vectors.append(middle)
            bar(len(vectors), len(texts))
    finally:
        bar.close()
        await batcher.close()
    return vectors


def _write(picture: MapPicture, output: Path) -> None:
    """Writes a file that appears whole or not at all, for its owner alone: there are messages on it."""
    try:
        with tempfile.NamedTemporaryFile(dir=output.parent, delete=False) as file:
            try:
                draw(picture, file, output.suffix.lower().removeprefix("."))
                file.flush()
                Path(file.name).rename(output)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        fail(f"{output} can't be written: {error.strerror}", Exit.USAGE)
