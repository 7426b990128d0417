"""Settings: read once, from flags, the environment, and a TOML file, in this order; then frozen and passed down."""

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from nearvote.examples.engine import VectorStorage
from nearvote.limits import Limits
from nearvote.startup_errors import InvalidSetting

_DEFAULTS = Limits()
_MAX_PORT = 65535
_PREFIX = "NEARVOTE_"
# What clients and tests read has the same prefix, and what Kubernetes tells of a service that is named nearvote.
_READ_ELSEWHERE = re.compile(rf"{_PREFIX}(CONFIG|API_KEY|SERVER_NAME|TLS_CA|TLS_CLIENT_(CERT|KEY)|EVAL_DATA|TEST_\w+)")
_OF_KUBERNETES = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "nearvote"


class Settings(BaseSettings):
    """What the service can be told. Each has an environment variable: NEARVOTE_ and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    address: str = Field("127.0.0.1:50051", description="Where gRPC is served: host:port, or unix:path.")
    metrics_address: str = Field(
        "127.0.0.1:9464", description="Where /metrics is served: host:port; `off` for nowhere."
    )
    tls_cert: Path | None = Field(None, description="The service's certificate, in PEM; read again when it changes.")
    tls_key: Path | None = Field(None, description="Its key, in PEM, without a password.")
    tls_client_ca: Path | None = Field(
        None, description="Authorities, in PEM, whose certificates clients must show; none are asked for when not set."
    )
    api_keys: Path | None = Field(
        None, description="File of API keys, as `nearvote keys create` writes it; read again when it changes."
    )
    allow_insecure: bool = Field(
        False,  # noqa: FBT003
        description="Serve other machines without asking who calls, or take their keys without TLS.",
    )
    reflection: bool = Field(True, description="Tell callers the contract by gRPC reflection.")  # noqa: FBT003
    data_dir: Path = Field(
        default_factory=lambda: _xdg("XDG_DATA_HOME", ".local/share"),
        description="Folder of the embedded store. Not used with a Qdrant server.",
    )
    min_free_disk_mib: int = Field(
        256,
        ge=0,
        description="Room on the disk of the embedded store, in MiB, below which writes are refused; reading goes on.",
    )
    cache_dir: Path = Field(
        default_factory=lambda: _xdg("XDG_CACHE_HOME", ".cache"), description="Folder of exported models."
    )
    qdrant_url: str | None = Field(
        None, description="URL of a Qdrant server, such as http://localhost:6333; the embedded store when not set."
    )
    qdrant_grpc_port: int = Field(6334, ge=1, le=65535, description="The Qdrant server's gRPC port.")
    qdrant_api_key: SecretStr | None = Field(None, description="The Qdrant server's API key.")
    qdrant_timeout_seconds: int = Field(
        10, ge=1, description="How long a call to the Qdrant server may take, with its further tries."
    )
    vectors_on_disk: bool = Field(
        False,  # noqa: FBT003
        description="Read vectors, and the index of n-grams, from the disk as they are needed, instead of keeping them "
        "in memory. Vectors in a learned metric always are.",
    )
    quantization: Literal["none", "int8"] = Field(
        "none",
        description="int8: search copies of the vectors in 8 bits, and compare twice as many as needed in full.",
    )
    on_store_failure: Literal["error", "abstain"] = Field(
        "error",
        description="What a message gets whose examples can't be searched: the error UNAVAILABLE, or an abstention.",
    )
    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="The encoder: hub id, folder, or `hashing` for one without a model, for tests.",
    )
    model_revision: str | None = Field(None, description="Commit of a hub id.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the encoder runs.")
    threads: int | None = Field(
        None,
        ge=1,
        description="The encoder's threads on a CPU, but for one of short texts; all usable cores when not set.",
    )
    embedding_cache_mib: int = Field(
        64, ge=0, description="Memory for the vectors of texts that came before, in MiB; 0 switches it off."
    )
    precision: Literal["fp32", "int8"] = Field(
        "fp32",
        description="Precision of the encoder's weights on a CPU. int8 is faster, and used only where 98.5 % of the "
        "examples keep their label.",
    )
    html: bool = Field(
        False,  # noqa: FBT003
        description="Read texts with HTML in them as a mail program shows them; else they are taken as written. "
        "Examples that are there are embedded anew by `nearvote reindex` with it.",
    )
    seeds: bool = Field(True, description="Load the shipped tasks and examples into an empty store.")  # noqa: FBT003
    seeds_dir: Path | None = Field(
        None, description="Folder of tasks.json and examples to load instead of the shipped."
    )
    max_text_bytes: int = Field(_DEFAULTS.max_text_bytes, ge=1, description="Longest text, in bytes of UTF-8.")
    max_batch_texts: int = Field(_DEFAULTS.max_batch_texts, ge=1, description="Most texts or examples in one batch.")
    max_k: int = Field(_DEFAULTS.max_k, ge=1, description="Most neighbours that may vote or be searched.")
    max_labels: int = Field(_DEFAULTS.max_labels, ge=1, description="Most labels of a task.")
    max_tasks: int = Field(_DEFAULTS.max_tasks, ge=1, description="Most tasks.")
    max_request_bytes: int = Field(_DEFAULTS.max_request_bytes, ge=1024, description="Largest request, in bytes.")
    max_stream_concurrency: int = Field(
        _DEFAULTS.max_stream_concurrency, ge=1, description="Most items of one stream that are worked on at a time."
    )
    max_stream_requests: int = Field(_DEFAULTS.max_stream_requests, ge=1, description="Most requests in one stream.")
    max_streams: int = Field(
        _DEFAULTS.max_streams, ge=1, description="Most streams at a time; a client has half of them at most."
    )
    max_concurrent_calls: int = Field(
        _DEFAULTS.max_concurrent_calls,
        ge=1,
        description="Most other calls at a time; a client has half of them at most.",
    )
    max_queued_tokens: int = Field(
        _DEFAULTS.max_queued_tokens,
        ge=1,
        description="Most tokens of texts that are not embedded yet; a client has half of them at most.",
    )
    max_connections: int = Field(
        _DEFAULTS.max_connections, ge=1, description="Most connections at a time; further ones are closed at once."
    )
    max_connection_calls: int = Field(
        _DEFAULTS.max_connection_calls,
        ge=1,
        description="Most calls and streams at a time over one connection; further ones wait in the client.",
    )
    max_watches: int = Field(
        _DEFAULTS.max_watches,
        ge=1,
        description="Most watches of health and streams of reflection at a time; a client has half of them at most.",
    )
    max_task_examples: int = Field(_DEFAULTS.max_task_examples, ge=1, description="Most examples of a task.")
    drain_delay_seconds: float = Field(
        5.0, ge=0, description="How long after SIGTERM calls are still let in, at most; none once nobody calls."
    )
    sweep_seconds: float = Field(
        60.0, gt=0, description="How often examples that have ended, and what was kept long enough, are deleted."
    )
    audit_days: int = Field(0, ge=0, description="How long the record of changes is kept, in days; 0 for ever.")
    explain_hours: float = Field(
        0.0,
        ge=0,
        le=87_600,
        description="How long it is kept what answers were made of, in hours, without texts; 0 to keep nothing.",
    )
    max_pending_feedback: int = Field(
        _DEFAULTS.max_pending_feedback, ge=1, description="Most corrections of one source that may be pending."
    )
    max_feedback_per_hour: int = Field(
        _DEFAULTS.max_feedback_per_hour,
        ge=1,
        description="Most corrections that one source may submit in an hour by the clock, UTC.",
    )
    feedback_promote_after: int = Field(
        0,
        ge=0,
        description="Promote a correction once so many sources agree, and more than say otherwise; 0 for never.",
    )
    feedback_days: int = Field(
        90, ge=0, description="How long rejected and revoked corrections are kept, in days; 0 for ever."
    )
    drain_timeout_seconds: float = Field(
        10.0, ge=0, description="How long calls may go on after SIGTERM before they are cut off."
    )
    max_connection_age_seconds: float = Field(
        0.0,
        ge=0,
        description="How old a connection may grow before the client is asked to make a new one, so that new replicas "
        "get their share; 0 for any age.",
    )
    otlp_endpoint: str | None = Field(
        None,
        description="Where traces are sent by OTLP over gRPC, such as http://localhost:4317; nowhere when not set.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="How it is logged; `auto` is for people at a terminal, JSON elsewhere."
    )

    @field_validator("address", "metrics_address")
    @classmethod
    def _check_address(cls, address: str, info: ValidationInfo) -> str:
        if address == "off" if info.field_name == "metrics_address" else address.startswith("unix:"):
            return address
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= _MAX_PORT:
            raise ValueError("an address is host:port, the port 1 to 65535")
        return address

    @field_validator("otlp_endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not re.fullmatch(r"https?://[^/\s]+/?", endpoint):
            raise ValueError("the endpoint is http://host:port, or https://host:port for TLS")
        return endpoint

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if self.max_text_bytes > self.max_request_bytes:
            raise ValueError("max_text_bytes is above max_request_bytes, so the longest texts could not be sent")
        return self

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together: set both, or none")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca asks clients for certificates, which takes tls_cert and tls_key")
        return self

    @property
    def vector_storage(self) -> VectorStorage:
        """How the store keeps vectors."""
        return VectorStorage(self.vectors_on_disk, self.quantization)

    @property
    def limits(self) -> Limits:
        """The bounds on requests and state."""
        return Limits(**{limit.name: getattr(self, limit.name) for limit in fields(Limits)})


def read_settings(flags: dict[str, Any], config: Path | None = None) -> Settings:
    """Reads the settings.

    Args:
        flags: What the command line says; None stands for nothing said.
        config: A TOML file; that of NEARVOTE_CONFIG when None, and no file when that is not set.

    Returns:
        The settings: flags before environment before file before defaults.

    Raises:
        InvalidSetting: A value can't be right, a name is unknown, or the file can't be read.
    """
    if config is None and os.environ.get("NEARVOTE_CONFIG"):
        config = Path(os.environ["NEARVOTE_CONFIG"])
    if config is not None and not config.is_file():
        raise InvalidSetting(f"there is no file {config}", field="config")

    class FileSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del dotenv_settings, file_secret_settings
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config)

    given = {name: value for name, value in flags.items() if value is not None}
    for name, value in given.items():
        if str(value) in {"", "."} and name in {"data_dir", "model", "qdrant_url"}:
            raise InvalidSetting(f"{name} is empty", field=name)
    try:
        return cast("Settings", FileSettings(**given))
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(map(str, problem["loc"]))
        said = problem["msg"].removeprefix("Value error, ")
        raise InvalidSetting(f"{name}: {said}" if name else said, field=name) from None
    except ValueError as error:  # not TOML
        raise InvalidSetting(f"{config} can't be read: {error}", field="config") from None


def ignored_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that look like settings and are none: mistyped, guessed, or of another version.

    Args:
        environment: Values of variables by name.

    Returns:
        For each the variable that may have been meant; empty where none comes close.
    """
    settings = [name.upper() for name in Settings.model_fields]
    ignored = {}
    for name, value in environment.items():
        rest = name.upper().removeprefix(_PREFIX)
        linked = _OF_KUBERNETES.fullmatch(rest) or value.startswith(("tcp://", "udp://", "sctp://"))
        elsewhere = _READ_ELSEWHERE.fullmatch(name)  # by exact case, unlike settings
        if rest != name.upper() and rest not in settings and not elsewhere and not linked:
            ignored[name] = next((f"{_PREFIX}{meant}" for meant in get_close_matches(rest, settings, 1, 0.8)), "")
    return ignored
