"""`nearvote examples check`."""

from typing import Annotated

import typer

from nearvote.cli.output import ADDRESS, Address, Exit, Json, out, print_json, print_table, service, shortened
from nearvote.learn.finding import Finding, FindingKind

_SHOWN = 10
_TITLES = {
    FindingKind.DUPLICATE: "duplicates: one text, several examples",
    FindingKind.CONFLICTING_NEAR_DUPLICATE: "near-duplicates with different labels",
    FindingKind.CONTRADICTED: "labels that the neighbours contradict",
    FindingKind.FEW_EXAMPLES: "labels with too few examples to be voted for",
    FindingKind.CONTRADICTING_SOURCE: "sources that contradict the rest",
}


def check(
    task: Annotated[str, typer.Option("--task", "-t", help="The task.")],
    everything: Annotated[bool, typer.Option("--all", help="Show all findings, not the first of each kind.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="End with 1 when anything is found.")] = False,
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """Look for doubtful examples: duplicates, near-duplicates, contradicted labels and sources, rare labels."""
    with service(address) as client:
        findings = list(client.check_examples(task))
    if as_json:
        for finding in findings:
            print_json(
                {
                    "kind": finding.kind.name.lower(),
                    "id": finding.example_id,
                    "labels": list(finding.labels),
                    "text": finding.text,
                    "other_id": finding.other_id,
                    "other_labels": list(finding.other_labels),
                    "other_text": finding.other_text,
                    "value": round(finding.value, 6),
                    "source": finding.source,
                    "judged_count": finding.judged_count,
                    "rest_value": round(finding.rest_value, 6),
                }
            )
    elif not findings:
        out.print("nothing is doubtful", highlight=False)
    else:
        for kind, title in _TITLES.items():
            of_kind = [finding for finding in findings if finding.kind is kind]
            show = _show_sources if kind is FindingKind.CONTRADICTING_SOURCE else _show
            show(title, of_kind, everything=everything)
    raise typer.Exit(Exit.FAILED if strict and findings else Exit.DONE)


def _show(title: str, findings: list[Finding], *, everything: bool) -> None:
    if not findings:
        return
    shown, title = _first(title, findings, everything=everything)
    rows = [
        (
            f"{finding.value:g}" if finding.kind is FindingKind.FEW_EXAMPLES else f"{finding.value:.3f}",
            ", ".join(finding.labels) + (f"\n{', '.join(finding.other_labels)}" if finding.other_labels else ""),
            finding.example_id + (f"\n{finding.other_id}" if finding.other_id else ""),
            shortened(finding.text) + (f"\n{shortened(finding.other_text)}" if finding.other_text else ""),
        )
        for finding in shown
    ]
    print_table(title, ("", "labels", "id", "text"), rows)


def _show_sources(title: str, findings: list[Finding], *, everything: bool) -> None:
    if not findings:
        return
    shown, title = _first(title, findings, everything=everything)
    rows = [
        (f"{finding.value:.1%} of {finding.judged_count}", f"{finding.rest_value:.1%}", shortened(finding.source))
        for finding in shown
    ]
    print_table(title, ("contradicted", "of all others", "source"), rows)


def _first(title: str, findings: list[Finding], *, everything: bool) -> tuple[list[Finding], str]:
    shown = findings if everything else findings[:_SHOWN]
    more = f", the first {len(shown)} shown" if len(shown) < len(findings) else ""
    return shown, f"{title} ({len(findings)}{more})"
