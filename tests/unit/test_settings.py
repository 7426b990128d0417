"""Settings: flags before environment before file before defaults."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nearvote.limits import Limits
from nearvote.settings import ignored_variables, read_settings
from nearvote.startup_errors import InvalidSetting


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine's own."""
    for name in os.environ:
        if name.upper().startswith(("NEARVOTE_", "XDG_")):
            monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A TOML file with some settings."""
    path = tmp_path / "nearvote.toml"
    path.write_text('address = "file:1"\nmodel = "from-file"\nmax_k = 11\nseeds = false\n')
    return path


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word, the service is on loopback, embedded, in the user's own folders."""
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = read_settings({})
    assert (settings.address, settings.metrics_address) == ("127.0.0.1:50051", "127.0.0.1:9464")
    assert (settings.qdrant_url, settings.seeds, settings.threads) == (None, True, None)
    assert settings.data_dir == tmp_path / ".local" / "share" / "nearvote"
    assert settings.cache_dir == tmp_path / ".cache" / "nearvote"
    assert settings.limits == Limits()


def test_users_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that the desktop standard names are heeded."""
    monkeypatch.setenv("XDG_DATA_HOME", "/srv/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "/srv/cache")
    settings = read_settings({})
    assert (settings.data_dir, settings.cache_dir) == (Path("/srv/data/nearvote"), Path("/srv/cache/nearvote"))


def test_order(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag goes before the environment, this before the file, and the file before the default."""
    monkeypatch.setenv("NEARVOTE_MODEL", "from-environment")
    monkeypatch.setenv("NEARVOTE_ADDRESS", "environment:1")
    settings = read_settings({"address": "flag:1"}, config)
    assert settings.address == "flag:1"
    assert settings.model == "from-environment"
    assert (settings.max_k, settings.seeds) == (11, False)
    assert settings.metrics_address == "127.0.0.1:9464"


def test_flags_not_given(config: Path) -> None:
    """A flag that was not given says nothing; one that says no is heard."""
    settings = read_settings({"address": None, "seeds": None, "max_k": None}, config)
    assert (settings.address, settings.seeds, settings.max_k) == ("file:1", False, 11)
    assert read_settings({"seeds": False}).seeds is False


def test_file_by_environment(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NEARVOTE_CONFIG names the file, unless the call does; empty it names none."""
    monkeypatch.setenv("NEARVOTE_CONFIG", str(config))
    assert read_settings({}).model == "from-file"
    other = tmp_path / "other.toml"
    other.write_text('model = "from-other"\n')
    settings = read_settings({}, other)
    assert (settings.model, settings.address) == ("from-other", "127.0.0.1:50051")
    monkeypatch.setenv("NEARVOTE_CONFIG", "")
    assert read_settings({}).address == "127.0.0.1:50051"


def test_empty_variables(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable counts as not set."""
    for name in ("MODEL", "MAX_K", "QDRANT_URL", "DATA_DIR", "SEEDS"):
        monkeypatch.setenv(f"NEARVOTE_{name}", "")
    settings = read_settings({}, config)
    assert (settings.model, settings.max_k, settings.qdrant_url, settings.seeds) == ("from-file", 11, None, False)
    assert settings.data_dir.name == "nearvote"


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_k", 0),
        ("max_k", "many"),
        ("max_text_bytes", -1),
        ("qdrant_grpc_port", 65_536),
        ("threads", 0),
        ("device", "tpu"),
        ("seeds", "perhaps"),
        ("log_level", "loud"),
        ("drain_timeout_seconds", -0.5),
    ],
)
def test_bad_values(
    source: str, name: str, value: str | float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that can't be right is refused by its setting's name, wherever it comes from."""
    config, flags = None, {}
    if source == "flag":
        flags[name] = value
    elif source == "environment":
        monkeypatch.setenv(f"NEARVOTE_{name.upper()}", str(value))
    else:
        config = tmp_path / "nearvote.toml"
        config.write_text(f"{name} = {value!r}\n")
    with pytest.raises(InvalidSetting, match=f"^{name}: ") as caught:
        read_settings(flags, config)
    assert caught.value.field == name


def test_unknown_key(config: Path) -> None:
    """A name in the file that means nothing is refused, not passed over."""
    config.write_text('adress = "0.0.0.0:1"\n')
    with pytest.raises(InvalidSetting, match=r"^adress: ") as caught:
        read_settings({}, config)
    assert caught.value.field == "adress"


def test_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was named and is not there, or is a folder, is refused by its path."""
    for missing in (tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(InvalidSetting, match=missing.name) as caught:
            read_settings({}, missing)
        assert caught.value.field == "config"
    monkeypatch.setenv("NEARVOTE_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(InvalidSetting, match=r"nowhere\.toml"):
        read_settings({})


@pytest.mark.parametrize("content", [b"address = ", b"= 1", b'model = "\xff"'])
def test_not_toml(config: Path, content: bytes) -> None:
    """A file that is not TOML is refused by its path."""
    config.write_bytes(content)
    with pytest.raises(InvalidSetting, match=r"nearvote\.toml can't be read") as caught:
        read_settings({}, config)
    assert caught.value.field == "config"


def test_limits() -> None:
    """Every limit can be set, and comes through as it was."""
    given = {field.name: 2_000 + i for i, field in enumerate(fields(Limits))}
    flags: dict[str, Any] = dict(given)
    assert read_settings(flags).limits == Limits(**given)


def test_frozen() -> None:
    """What was read does not change."""
    settings: Any = read_settings({})
    with pytest.raises(ValidationError):
        settings.max_k = 1


def test_key_is_kept_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API key is not shown where settings are."""
    monkeypatch.setenv("NEARVOTE_QDRANT_API_KEY", "hunter2")
    settings = read_settings({})
    assert settings.qdrant_api_key is not None
    assert settings.qdrant_api_key.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NEARVOTE_METRIC_ADDRESS", "NEARVOTE_METRICS_ADDRESS"),
        ("NEARVOTE_APIKEYS", "NEARVOTE_API_KEYS"),
        ("nearvote_max_streamz", "NEARVOTE_MAX_STREAMS"),
        ("NEARVOTE_PORT", ""),
        ("NEARVOTE_HOST", ""),  # much like NEARVOTE_HTML, by the prefix alone
        ("nearvote_config", ""),  # is read in capitals alone
    ],
)
def test_variables_that_are_no_settings(name: str, meant: str) -> None:
    """A variable that looks like a setting and is none is told of, with the one that may have been meant."""
    assert ignored_variables({name: "8080", "PATH": "/bin", "NEARVOTE_MODEL": "m"}) == {name: meant}


def test_variables_that_others_read() -> None:
    """What clients read, and what Kubernetes says of a service of this name, is nobody's mistake."""
    clients = {f"NEARVOTE_{name}": "x" for name in ("API_KEY", "TLS_CA", "TLS_CLIENT_KEY", "SERVER_NAME", "CONFIG")}
    assert ignored_variables(clients) == {}
    kubernetes = {
        "NEARVOTE_SERVICE_HOST": "10.0.0.1",
        "NEARVOTE_SERVICE_PORT": "50051",
        "NEARVOTE_SERVICE_PORT_GRPC": "50051",
        "NEARVOTE_PORT": "tcp://10.0.0.1:50051",
        "NEARVOTE_PORT_50051_TCP": "tcp://10.0.0.1:50051",
        "NEARVOTE_PORT_50051_TCP_PROTO": "tcp",
        "NEARVOTE_PORT_50051_TCP_ADDR": "10.0.0.1",
        "NEARVOTE_METRICS_SERVICE_HOST": "10.0.0.2",
        "NEARVOTE_METRICS_PORT": "tcp://10.0.0.2:9464",
    }
    assert ignored_variables(kubernetes) == {}


def test_metrics_have_a_port() -> None:
    """Prometheus reads from host:port, unlike calls, which may come over a Unix socket."""
    assert read_settings({"address": "unix:/run/nearvote.sock"}).address == "unix:/run/nearvote.sock"
    with pytest.raises(InvalidSetting, match="host:port"):
        read_settings({"metrics_address": "unix:/run/metrics.sock"})
    with pytest.raises(InvalidSetting, match="host:port"):
        read_settings({"address": "off"})
