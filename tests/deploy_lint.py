"""Checks every file of `deploy/` by the schema of what reads it.

python -m tests.deploy_lint            exits with 1 when anything is wrong
python -m tests.deploy_lint --write    writes what is generated: the rules for the Prometheus operator
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests import deployment
from tests.deployment import DEPLOY, KUBERNETES, ROOT

BIN = Path(sys.executable).parent
MODELS = ROOT / "build/kubernetes/node_modules"
KUBERNETES_VERSION = "1.34"
_OPERATOR = "monitoring.coreos.com/v1"
_DASHBOARD_WIDTH = 24


def main() -> int:
    """Runs all checks, and prints what they find."""
    if "--write" in sys.argv:
        deployment.PROMETHEUS_RULE.write_text(deployment.prometheus_rule())
        return 0
    found = [finding for check in (_texts, _generated, _manifests, _prometheus, _dashboard) for finding in check()]
    print("\n".join(found) or "deploy/ is well")
    return 1 if found else 0


def _texts() -> Iterator[str]:
    """YAML, compose file, and Dockerfiles, each by a linter of its own."""
    yield from _run([BIN / "yamllint", "--strict", DEPLOY])
    yield from _run([BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"])
    yield from _run([BIN / "hadolint", DEPLOY / "Dockerfile", DEPLOY / "Dockerfile.cuda"])


def _generated() -> Iterator[str]:
    path = deployment.PROMETHEUS_RULE
    if not path.exists() or path.read_text() != deployment.prometheus_rule():
        yield f"{path} is not of the rules: run `python -m tests.deploy_lint --write`"


def _manifests() -> Iterator[str]:
    """Manifests by Kubernetes' schemas, as they are written and as they are rendered."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if path.name != "kustomization.yaml" and path.name not in _patches(path.parent):
            for document in deployment.documents(path.read_text()):
                yield from _manifest(document, path.relative_to(ROOT).as_posix())
    for overlay in deployment.OVERLAYS:
        try:
            rendered = deployment.render(overlay)
        except subprocess.CalledProcessError as error:
            yield f"{overlay}: {error.stderr}"
            continue
        if rendered is None:
            print(f"{overlay.name}: not rendered, since neither kustomize nor kubectl is installed")
        for document in rendered or []:
            yield from _manifest(document, f"{overlay.name}, rendered")
            yield from _mounts(document, overlay.name)


def _mounts(document: dict[str, Any], place: str) -> Iterator[str]:
    """Every volume is mounted. A patch that names a mount wrongly makes kustomize drop mounts without a word."""
    spec = document.get("spec", {})
    pod = spec.get("template", {}).get("spec", {})
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    mounts = {mount["name"] for one in pod.get("containers", []) for mount in one.get("volumeMounts", [])}
    for name in sorted(volumes ^ mounts):
        yield f"{place}, rendered: {document['metadata']['name']}: {name} is a volume or mounted, not both"


def _patches(folder: Path) -> set[str]:
    """Files of a folder that are only parts of a manifest."""
    path = folder / "kustomization.yaml"
    patches = yaml.safe_load(path.read_text()).get("patches", []) if path.exists() else []
    return {patch["path"] for patch in patches if "path" in patch}


def _manifest(document: dict[str, Any], place: str) -> Iterator[str]:
    name = f"{place}: {document['kind']} {document['metadata']['name']}"
    if document["apiVersion"] == _OPERATOR:
        if not MODELS.is_dir():
            yield f"{name}: no schemas in {MODELS}: `make lint` installs them"
            return
        script = Path(__file__).with_suffix(".mjs")
        yield from _run(["node", script, MODELS], stdin=json.dumps([document]))
        return
    try:
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{name}: {'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{name}: {error}"


def _prometheus() -> Iterator[str]:
    """Rules, their tests' form, configuration, and the dashboard's expressions, by Prometheus' own parser."""
    if shutil.which("promtool") is None:
        print("rules and expressions are not parsed: promtool is not installed (Debian package prometheus)")
        return
    yield from _run(["promtool", "check", "rules", "--lint-fatal", *deployment.RULES])
    yield from _run(["promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml"])
    expressions = [
        {"record": f"dashboard:{number}", "expr": expression}
        for number, (_, expression) in enumerate(deployment.dashboard_expressions())
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": expressions}]}, file)
        file.flush()
        yield from _run(["promtool", "check", "rules", file.name])


def _dashboard() -> Iterator[str]:
    """The dashboard has what Grafana needs of it, and its panels do not lie on one another."""
    board = deployment.dashboard()
    needed = {"uid", "title", "schemaVersion", "templating", "annotations", "panels", "time"}
    yield from (f"the dashboard has no {name}" for name in sorted(needed - board.keys()))
    panels = board["panels"]
    if len({panel["id"] for panel in panels}) != len(panels):
        yield "two panels of the dashboard have one id"
    for panel in panels:
        title, place = panel["title"], panel["gridPos"]
        if place["x"] + place["w"] > _DASHBOARD_WIDTH:
            yield f"panel {title} is wider than the dashboard"
        if panel["type"] == "row":
            continue
        if not panel["description"] or not panel["targets"]:
            yield f"panel {title} shows nothing, or does not say what"
        for target in panel["targets"]:
            if target["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
                yield f"panel {title} asks another data source than the one that is chosen"
    ordered = sorted(panels, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    for one, other in pairwise(ordered):
        a, b = one["gridPos"], other["gridPos"]
        if b["y"] < a["y"] + a["h"] and b["x"] < a["x"] + a["w"]:
            yield f"panels {one['title']} and {other['title']} lie on one another"


def _run(command: list[Any], stdin: str = "") -> Iterator[str]:
    done = subprocess.run(
        list(map(str, command)), input=stdin, capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode:
        yield f"{command[0]}: {(done.stdout + done.stderr).strip()}"


if __name__ == "__main__":
    sys.exit(main())
