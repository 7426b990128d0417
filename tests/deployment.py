"""What is in `deploy/`, read for lint and tests."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
RULES = sorted((DEPLOY / "prometheus/rules").glob("*.yaml"))
KUBERNETES = DEPLOY / "kubernetes"
PROMETHEUS_RULE = KUBERNETES / "components/monitoring/prometheusrule.yaml"
OVERLAYS = sorted(path.parent for path in KUBERNETES.glob("overlays/*/kustomization.yaml"))


def documents(text: str) -> list[dict[str, Any]]:
    """The documents of a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document]


def rules() -> list[dict[str, Any]]:
    """All rules, recording and alerting."""
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """The alerting rules."""
    return [rule for rule in rules() if "alert" in rule]


def dashboard() -> dict[str, Any]:
    """The Grafana dashboard."""
    parsed: dict[str, Any] = json.loads((DEPLOY / "grafana/nearvote.json").read_text())
    return parsed


def dashboard_expressions() -> Iterator[tuple[str, str]]:
    """Where each PromQL expression of the dashboard stands, and itself, with Grafana's variables filled in."""
    board = dashboard()
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])]
    found += [(annotation["name"], annotation["expr"]) for annotation in board["annotations"]["list"]]
    for place, expression in found:
        yield place, expression.replace("$__rate_interval", "5m").replace("$tenant", ".*").replace("$task", ".*")


def names_in(expression: str) -> set[str]:
    """Metrics and recorded series that an expression names."""
    return set(re.findall(r"(?<![\w:])(?:nearvote|grpc_server|process)[_:][a-z0-9_:]*[a-z0-9]", expression))


def prometheus_rule() -> str:
    """The rules as a PrometheusRule of the Prometheus operator, one file of YAML."""
    body = "".join("".join(f"    {line}" if line.strip() else line for line in _groups(path)) for path in RULES)
    return (
        "# Generated from deploy/prometheus/rules/ by `python -m tests.deploy_lint --write`.\n"
        "apiVersion: monitoring.coreos.com/v1\n"
        "kind: PrometheusRule\n"
        "metadata:\n"
        "  name: nearvote\n"
        "spec:\n"
        "  groups:\n"
    ) + body


def render(overlay: Path) -> list[dict[str, Any]] | None:
    """What kustomize makes of an overlay; None where it is not installed, by itself or in kubectl."""
    command = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run([*command, overlay], capture_output=True, text=True, check=True, timeout=60)
    return documents(done.stdout)


def _groups(path: Path) -> list[str]:
    lines = path.read_text().splitlines(keepends=True)
    return [line.removeprefix("  ") for line in lines[lines.index("groups:\n") + 1 :]]
