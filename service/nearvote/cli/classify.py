"""`nearvote classify`."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from nearvote.cli.output import (
    ADDRESS,
    Address,
    Exit,
    Json,
    encodable,
    err,
    print_json,
    print_table,
    service,
    shortened,
)
from nearvote.client.calls import StreamAnswer
from nearvote.voting.neighbor import Neighbor
from nearvote.voting.prediction import Prediction

_SHOWN_NEIGHBORS = 3


def classify(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT...", help="Lines of standard input when none.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="A task to ask; all when none is named.")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", min=1, help="Neighbours that vote.")] = None,
    neighbors: Annotated[int | None, typer.Option(min=0, help="Neighbours to show; all voters with --json.")] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """Label texts, and show the neighbours that decided; by id where their texts are not the caller's to see.

    With --json one object a line, for each text and task: text, request_id, task, label, labels, score, margin, scores,
    abstained, reason, action, windows, neighbors.
    """
    lines = map(encodable, texts) if texts else _standard_input()
    limit = neighbors if neighbors is not None or as_json else _SHOWN_NEIGHBORS
    failed = False
    under_way: dict[int, str] = {}

    def remember() -> Iterator[str]:
        for i, line in enumerate(lines):
            under_way[i] = line
            yield line

    with service(address) as client:
        sees_texts = client.info().caller.role != "classify"  # asking for them would be refused
        answers = client.classify_stream(remember(), task or (), k=k, with_texts=sees_texts, neighbor_limit=limit)
        for answer in _in_order(answers):
            text = under_way.pop(answer.index)
            if answer.error is not None:
                failed = True
                if as_json:
                    print_json(
                        {"text": text, "error": {"reason": answer.error.reason, "message": answer.error.message}}
                    )
                else:
                    err.print(f"{shortened(text)}: {answer.error}", style="red", markup=False, highlight=False)
            elif answer.classification is not None:
                windows = answer.classification.window_count
                for prediction in answer.classification.predictions:
                    if as_json:
                        print_json(prediction_as_json(text, prediction, windows, answer.classification.request_id))
                if not as_json:
                    show_predictions(text, answer.classification.predictions, windows)
    raise typer.Exit(Exit.FAILED if failed else Exit.DONE)


def _standard_input() -> Iterator[str]:
    for i, line in enumerate(sys.stdin.buffer):
        yield line.decode("utf-8" if i else "utf-8-sig", errors="replace").rstrip("\r\n")


def _in_order(answers: Iterator[StreamAnswer]) -> Iterator[StreamAnswer]:
    """Answers in the order of their texts; early ones wait for those before them."""
    early: dict[int, StreamAnswer] = {}
    due = 0
    for answer in answers:
        early[answer.index] = answer
        while due in early:
            yield early.pop(due)
            due += 1


def prediction_as_json(text: str, prediction: Prediction, windows: int, request_id: str) -> dict[str, Any]:
    """A prediction for programs."""
    reason = prediction.abstention_reason
    return {
        "text": text,
        "request_id": request_id,
        "task": prediction.task,
        "label": prediction.label,
        "labels": list(prediction.labels),
        "score": round(prediction.score, 6),
        "margin": round(prediction.margin, 6),
        "scores": {label: round(score, 6) for label, score in prediction.scores.items()},
        "abstained": prediction.abstained,
        "reason": reason.value if reason else None,
        "action": prediction.action.value if prediction.action else None,
        "windows": windows,
        "decided_by_window": prediction.decided_by_window,
        "neighbors": [
            {
                "id": neighbor.example_id,
                "text": neighbor.text,
                "labels": list(neighbor.labels),
                "similarity": round(neighbor.similarity, 6),
                "weight": round(neighbor.share, 6),
                "view": neighbor.view.value,
                "window": neighbor.window,
                "source": neighbor.source,
            }
            for neighbor in prediction.neighbors
        ],
    }


def show_predictions(text: str, predictions: tuple[Prediction, ...], windows: int) -> None:
    """Predictions for people."""
    title = shortened(text) + (f"  ({windows} windows)" if windows > 1 else "")
    rows = []
    for prediction in predictions:
        reason = prediction.abstention_reason
        answer = f"abstains: {reason.value}" if reason else ", ".join(prediction.labels)
        evidence = [
            f"{n.share:.0%} {n.view.value} {n.similarity:.2f} {', '.join(n.labels)}: {_named(n)}"
            for n in prediction.neighbors
        ]
        rows.append(
            (prediction.task, answer, f"{prediction.score:.3f}", f"{prediction.margin:.3f}", "\n".join(evidence))
        )
    print_table(title, ("task", "label", "score", "margin", "voters: share, view, similarity"), rows)


def _named(neighbor: Neighbor) -> str:
    """A neighbour for people: its text, its id where there is none."""
    return shortened(neighbor.text) or neighbor.example_id
