"""The service starts with what the image, the compose file and the manifests tell it, on other ports."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
import yaml

from tests import deployment
from tests.deployment import DEPLOY, KUBERNETES
from tests.integration.server import Server, run
from tests.qdrant.stand_in import StandIn

_PLACES = ("/secrets/", "/tls/", "/keys/")  # where containers have their secrets
_OF_THE_IMAGE = {"NEARVOTE_CACHE_DIR", "NEARVOTE_DATA_DIR"}  # folders that only a container has


def image() -> dict[str, str]:
    """What the image says."""
    given = dict(re.findall(r"\b(NEARVOTE_[A-Z_]+)=(\S+)", (DEPLOY / "Dockerfile").read_text()))
    return {name: value for name, value in given.items() if name not in _OF_THE_IMAGE}


def compose(*, secured: bool) -> dict[str, str]:
    """What the compose file says, with deploy/.env filled in by one of its two ways."""
    lines = (DEPLOY / "env.example").read_text()
    said = dict(re.findall(r"^([A-Z_]+)=(.*)$", lines, re.MULTILINE)) | {"NEARVOTE_QDRANT_API_KEY": "secret"}
    if secured:
        del said["NEARVOTE_ALLOW_INSECURE"]
        said |= dict(re.findall(r"^# ([A-Z_]+)=(.*)$", lines, re.MULTILINE))

    def value(match: re.Match[str]) -> str:
        return said.get(match[1]) or match[2]

    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["nearvote"]
    return {name: re.sub(r"\$\{(\w+):[-?](.*?)\}", value, text) for name, text in service["environment"].items()}


def overlay(name: str) -> dict[str, str]:
    """What the manifests of an overlay say."""
    rendered = deployment.render(KUBERNETES / "overlays" / name)
    if rendered is None:
        pytest.skip("neither kustomize nor kubectl is installed")
    (settings,) = (one["data"] for one in rendered if one["kind"] == "ConfigMap")
    return {name: value for name, value in settings.items() if name.startswith("NEARVOTE_")}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A folder of all files that secrets have."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    for name in ("tls", "health"):
        issued = authority.issue_cert("nearvote", "nearvote.example", common_name=name)
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.crt"))
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
    done = run("keys", "create", "--file", str(tmp_path / "api-keys"), "--name", "ops", "--role", "admin")
    assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.fixture
def qdrant(tmp_path: Path) -> Iterator[StandIn]:
    """A Qdrant server."""
    server = StandIn(tmp_path / "qdrant").start()
    yield server
    server.stop()


@pytest.mark.parametrize("way", ["image", "compose", "compose, secured", "small", "cluster"])
def test_the_service_takes_what_it_is_told(way: str, secrets: Path, qdrant: StandIn) -> None:
    """Each way of running it starts a service on all addresses that says it is well, with the store that is meant."""
    ways = {
        "image": lambda: {"NEARVOTE_ALLOW_INSECURE": "true"},
        "compose": lambda: compose(secured=False),
        "compose, secured": lambda: compose(secured=True),
        "small": lambda: overlay("small"),
        "cluster": lambda: overlay("cluster"),
    }
    told = image() | ways[way]()
    for name, value in told.items():
        if value.startswith(_PLACES):
            told[name] = str(secrets / Path(value).name)
    on_server = "NEARVOTE_QDRANT_URL" in told
    if on_server:
        told |= {"NEARVOTE_QDRANT_URL": "http://127.0.0.1", "NEARVOTE_QDRANT_GRPC_PORT": str(qdrant.port)}
    server = Server(secrets / "data", "--model", "hashing", "--no-seeds", **told)
    address, metrics = (
        f"{told.pop(name).partition(':')[0]}:{own.rpartition(':')[2]}"
        for name, own in (("NEARVOTE_ADDRESS", server.address), ("NEARVOTE_METRICS_ADDRESS", server.metrics_address))
    )
    server.flags = (*server.flags, "--address", address, "--metrics-address", metrics)  # the later flags count
    server.launch()
    try:
        server.wait_for_log('"event": "serving"')
        done = run("health", **told, NEARVOTE_ADDRESS=address)
        assert (done.returncode, done.stderr) == (0, "")
        assert server.metric_with("nearvote_build_info", f'store="{"server" if on_server else "edge"}"') == 1
        secured = "NEARVOTE_TLS_CA" in told and bool(told["NEARVOTE_TLS_CA"])
        assert secured == (way in {"compose, secured", "cluster"})
        assert (run("info", NEARVOTE_ADDRESS=server.address).returncode == 0) is not secured
    finally:
        server.stop()
