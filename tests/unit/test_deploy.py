"""What is in `deploy/` goes together, and with the service."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from nearvote.observe.metrics import Metrics
from nearvote.observe.store import READS
from nearvote.settings import Settings, read_settings
from tests import deployment
from tests.deployment import DEPLOY, KUBERNETES, ROOT

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",), "gauge": ("",)}
# Read by `nearvote health`, not by the service.
_OF_HEALTH = {f"NEARVOTE_{name}" for name in ("TLS_CA", "TLS_CLIENT_CERT", "TLS_CLIENT_KEY", "SERVER_NAME")}
# Names of deploy/.env that are the compose file's own.
_OF_COMPOSE = {"NEARVOTE_SECRETS", "NEARVOTE_PUBLISH"}


def exported() -> set[str]:
    """Names of all series that the service has."""
    families = list(Metrics().registry.collect())
    return {family.name + suffix for family in families for suffix in _SUFFIXES[family.type]}


def recorded() -> set[str]:
    """Names of all series that the rules make."""
    return {rule["record"] for rule in deployment.rules() if "record" in rule}


def test_every_metric_in_a_rule_exists() -> None:
    """Rules name series that the service exports or another rule records, and each alert names one at least."""
    for rule in deployment.rules():
        named = deployment.names_in(rule["expr"])
        assert named <= exported() | recorded(), rule
        assert named or "up{" in rule["expr"], rule


def test_failed_reads_alone_wake_somebody() -> None:
    """The alert of store errors names all operations that read, and none that writes."""
    (rule,) = (rule for rule in deployment.alerts() if rule["alert"] == "NearvoteStoreErrors")
    (named,) = re.findall(r'operation=~"(.*?)"', rule["expr"])
    assert set(named.split("|")) == set(READS)


def test_every_metric_in_the_dashboard_exists() -> None:
    """Panels and annotations show what there is."""
    for place, expression in deployment.dashboard_expressions():
        named = deployment.names_in(expression)
        assert named <= exported() | recorded(), place
        assert named or "up{" in expression, place


def test_the_dashboard_answers_its_questions() -> None:
    """The rows are the questions, in their order, and each alert's own series are on it."""
    rows = [panel["title"] for panel in deployment.dashboard()["panels"] if panel["type"] == "row"]
    assert rows == ["Is it up?", "Is it fast?", "Is it right?", "What changed?"]
    shown = {name for _, expression in deployment.dashboard_expressions() for name in deployment.names_in(expression)}
    for name in ("nearvote:similarity:psi", "nearvote:labels:psi", "nearvote:abstentions:share1h", "nearvote_examples"):
        assert name in shown


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    """Each alert says how bad it is, what is wrong, and where its page is, which says what it means and what to do."""
    folder = ROOT / "docs/runbook"
    for alert in deployment.alerts():
        name = alert["alert"]
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["runbook_url"] == f"docs/runbook/{name}.md"
        page = (folder / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n")
        parts = re.split(r"^## (.*)\n", page, flags=re.MULTILINE)
        assert parts[1::2] == ["What it means", "What to look at", "What to do"]
        assert all(part.strip() for part in parts[2::2])
    names = {alert["alert"] for alert in deployment.alerts()}
    assert {path.stem for path in folder.glob("*.md")} == names | {"README"}
    assert set(re.findall(r"^\| \[(\w+)\]", (folder / "README.md").read_text(), re.MULTILINE)) == names


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_pages_for_operators_point_to_what_is_there(page: Path) -> None:
    """Metrics that a page names exist, and so do the pages and headings that it links to."""
    text = page.read_text()
    for code in re.findall(r"`([^`]+)`", text):
        assert deployment.names_in(code) <= exported() | recorded(), code
    for target in re.findall(r"\]\(([^)#:]*(?:#[^)]*)?)\)", text):
        path, _, heading = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if heading else []
        assert not heading or heading in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}


def test_every_alert_is_tested() -> None:
    """Each alert is made to fire in some case of those that promtool runs."""
    cases = [
        case
        for path in (DEPLOY / "prometheus/tests").glob("*.yaml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == {a["alert"] for a in deployment.alerts()}


def settings_given() -> dict[str, set[str]]:
    """Environment variables of nearvote that files of `deploy/` set, by file."""
    files = [
        *DEPLOY.glob("Dockerfile*"), DEPLOY / "compose.yaml", DEPLOY / "env.example", *KUBERNETES.rglob("*.yaml"),
    ]  # fmt: skip
    return {
        path.relative_to(ROOT).as_posix(): set(re.findall(r"\bNEARVOTE_[A-Z_]+", path.read_text())) for path in files
    }


@pytest.mark.parametrize(("file", "names"), settings_given().items(), ids=settings_given())
def test_every_setting_that_is_given_exists(file: str, names: set[str]) -> None:
    """Images and manifests set what the service reads."""
    known = {f"NEARVOTE_{name.upper()}" for name in Settings.model_fields} | _OF_HEALTH
    if file in {"deploy/compose.yaml", "deploy/env.example"}:
        known |= _OF_COMPOSE
    assert names <= known


def workload(overlay: Path) -> dict[str, dict[str, Any]]:
    """What an overlay is rendered to, by kind and name."""
    rendered = deployment.render(overlay)
    if rendered is None:
        pytest.skip("neither kustomize nor kubectl is installed")
    return {f"{document['kind']}/{document['metadata']['name']}": document for document in rendered}


@pytest.mark.parametrize("overlay", deployment.OVERLAYS, ids=lambda path: path.name)
def test_kubernetes_waits_for_the_drain(overlay: Path) -> None:
    """A pod is given longer than the pause before SIGTERM and the drain take, and its settings are right."""
    rendered = workload(overlay)
    pod = rendered["Deployment/nearvote"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (map_name,) = (source["configMapRef"]["name"] for source in container["envFrom"])
    given = rendered[f"ConfigMap/{map_name}"]["data"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(given["NEARVOTE_DRAIN_DELAY_SECONDS"]) + float(given["NEARVOTE_DRAIN_TIMEOUT_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] >= pause + drain + 5
    prefix = "NEARVOTE_"
    flags = {name.removeprefix(prefix).lower(): value for name, value in given.items() if name.startswith(prefix)}
    read_settings({name: value for name, value in flags.items() if name in Settings.model_fields})


@pytest.mark.parametrize("overlay", deployment.OVERLAYS, ids=lambda path: path.name)
def test_a_pod_may_do_no_more_than_it_must(overlay: Path) -> None:
    """Containers run without root, capabilities, a writable root or a token."""
    for document in workload(overlay).values():
        if document["kind"] in {"Deployment", "StatefulSet"}:
            pod = document["spec"]["template"]["spec"]
            assert pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["runAsNonRoot"]
            for container in pod["containers"]:
                security = container["securityContext"]
                assert security["readOnlyRootFilesystem"]
                assert security["allowPrivilegeEscalation"] is False
                assert security["capabilities"] == {"drop": ["ALL"]}
                assert container["livenessProbe"]
                assert container["readinessProbe"]


def test_the_cluster_is_watched_and_keeps_two_copies() -> None:
    """Prometheus finds the service under the rules' job, and Qdrant has three nodes, two copies, and TLS with a key."""
    rendered = workload(KUBERNETES / "overlays/cluster")
    monitor = rendered["ServiceMonitor/nearvote"]["spec"]
    service = rendered["Service/nearvote"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "nearvote"
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= {
        port["name"] for port in service["spec"]["ports"]
    }
    assert rendered["Service/nearvote-headless"]["spec"]["clusterIP"] == "None"
    qdrant = rendered["StatefulSet/qdrant"]["spec"]
    env = {one["name"]: one.get("value") for one in qdrant["template"]["spec"]["containers"][0]["env"]}
    assert qdrant["replicas"] == 3
    assert env["QDRANT__STORAGE__COLLECTION__REPLICATION_FACTOR"] == "2"
    assert env["QDRANT__STORAGE__COLLECTION__WRITE_CONSISTENCY_FACTOR"] == "2"
    assert env["QDRANT__SERVICE__ENABLE_TLS"] == env["QDRANT__CLUSTER__P2P__ENABLE_TLS"] == "true"
    assert "QDRANT__SERVICE__API_KEY" in env
    for name in ("nearvote", "qdrant"):
        budget = rendered[f"PodDisruptionBudget/{name}"]["spec"]
        assert budget["maxUnavailable"] < qdrant["replicas"]
        assert f"NetworkPolicy/{name}" in rendered
    scaler = rendered["HorizontalPodAutoscaler/nearvote"]["spec"]
    assert scaler["minReplicas"] > rendered["PodDisruptionBudget/nearvote"]["spec"]["maxUnavailable"]


def test_compose_waits_for_the_drain() -> None:
    """A container that is stopped is given longer than the drain takes."""
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["nearvote"]
    given = Settings()
    assert not {name for name in service["environment"] if "DRAIN" in name}, "the defaults hold"
    drain = given.drain_delay_seconds + given.drain_timeout_seconds
    assert float(service["stop_grace_period"].removesuffix("s")) >= drain + 5


def test_compose_starts_in_order() -> None:
    """Each service waits for the one that it needs to be healthy, and all but those of the image say when they are."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    order = {name: list(service.get("depends_on", {})) for name, service in services.items()}
    assert order == {"qdrant": [], "nearvote": ["qdrant"], "prometheus": ["nearvote"], "grafana": ["prometheus"]}
    for name, service in services.items():
        assert all(needed["condition"] == "service_healthy" for needed in service.get("depends_on", {}).values())
        assert service["read_only"] is True
        assert "healthcheck" in service or name == "nearvote", "that of nearvote is in its image"
        assert "@" in service["image"] or re.search(r":v?\d+\.\d+\.\d+", service["image"])
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith("./") or (DEPLOY / source).exists()


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_an_image_is_small_and_tame(name: str) -> None:
    """Images are of a pinned base, run as nobody in particular, check themselves, and run scripts alone."""
    text = re.sub(r"\\\n\s*", " ", (DEPLOY / name).read_text())
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    given = [(word, rest) for word, rest in lines]
    stages = [rest.split()[0] for word, rest in given if word == "FROM"]
    assert all(stage in {"base", "wheel"} or re.search(r":\d+\.\d+\.\d+", stage) for stage in stages)
    assert [rest for word, rest in given if word == "USER"] == ["10001:10001"]
    assert any(word == "HEALTHCHECK" and rest.endswith('CMD ["nearvote", "health"]') for word, rest in given)
    for word, rest in given:
        if word == "RUN" and not rest.startswith("install --directory"):
            assert (ROOT / rest.split()[0]).stat().st_mode & 0o111, rest
        if word == "COPY" and "--from" not in rest:
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
    last = [rest for word, rest in given if word == "COPY" and "--from" in rest]
    assert any("/opt/nearvote" in rest for rest in last)


def test_scripts_of_the_image_are_sound() -> None:
    """The shell has nothing to say against the scripts that make an image."""
    for script in (DEPLOY / "image").glob("*.sh"):
        assert subprocess.run(["sh", "-n", script], check=False, timeout=10).returncode == 0
