"""How a client shows who it is, and knows whom it talks to."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from nearvote.access.exposure import is_local
from nearvote.client.errors import ClientError


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to be let in.

    Attributes:
        api_key: A key of the service; None for none.
        tls_ca: Authorities, in PEM, one of which vouches for the service; None for a connection without TLS.
        tls_client_cert: The client's own certificate, in PEM; None for none.
        tls_client_key: Its key, in PEM.
        allow_insecure: Send the key to another machine without TLS.

    Raises:
        ValueError: They don't go together, or the key is none.
    """

    api_key: str | None = None
    tls_ca: Path | str | None = None
    tls_client_cert: Path | str | None = None
    tls_client_key: Path | str | None = None
    allow_insecure: bool = False

    def __post_init__(self) -> None:
        if (self.tls_client_cert is None) != (self.tls_client_key is None):
            raise ValueError("a client's certificate and its key go together: give both, or none")
        if self.tls_client_cert is not None and self.tls_ca is None:
            raise ValueError("a client's certificate takes TLS: say who vouches for the service by tls_ca")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ValueError("an API key is of printable ASCII characters")

    def check(self, address: str) -> None:
        """Checks that a key can't be read on the way to an address.

        Raises:
            ValueError: It would go to another machine without TLS.
        """
        if self.api_key and self.tls_ca is None and not self.allow_insecure and not is_local(address):
            raise ValueError(
                f"the key could be read on its way to {address}: say who vouches for the service by tls_ca, or set "
                "allow_insecure where something else keeps the way private"
            )

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return (("authorization", f"Bearer {self.api_key}"),) if self.api_key else ()

    @property
    def credentials(self) -> grpc.ChannelCredentials | None:
        """Those of the channel; None for one without TLS.

        Raises:
            ClientError: A file can't be read.
        """
        if self.tls_ca is None:
            return None
        return grpc.ssl_channel_credentials(_read(self.tls_ca), _read(self.tls_client_key), _read(self.tls_client_cert))


def _read(path: Path | str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ClientError(f"{path} can't be read: {error.strerror}") from None
