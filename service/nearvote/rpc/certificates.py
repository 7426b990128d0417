"""The server's certificate, taken up anew when its files change."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from nearvote.access.validity import not_after
from nearvote.access.watched import Watched
from nearvote.startup_errors import InvalidSetting


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the certificate is, in PEM.

    Attributes:
        cert: The server's certificate, with those between it and its authority.
        key: Its key, without a password.
        client_ca: The authorities whose certificates clients must show; None to ask for none.
    """

    cert: Path
    key: Path
    client_ca: Path | None

    @property
    def paths(self) -> list[Path]:
        """All of them."""
        return [self.cert, self.key, *([self.client_ca] if self.client_ca else [])]


@dataclass(frozen=True, slots=True)
class _Served:
    configuration: grpc.ServerCertificateConfiguration
    not_after: float


class ServedCertificate:
    """The certificate that is shown. The files are looked at with each use; broken ones leave the former in use.

    Args:
        files: Where it is.

    Raises:
        InvalidSetting: A file can't be read, or certificate and key don't go together.
    """

    def __init__(self, files: CertificateFiles) -> None:
        self._asks_clients = files.client_ca is not None
        self._watched = Watched("certificate", files.paths, lambda: _read(files))

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for a port."""
        given = self._watched().configuration

        def changed() -> Any:  # types-grpcio does not know that it may be None
            # None while nothing has changed: with each answer gRPC's core replaces what handshakes are made of,
            # and may end the process where another connection is just using it (grpc/grpc issue 36693).
            nonlocal given
            now = self._watched().configuration
            if now is given:
                return None
            given = now
            return now

        return grpc.dynamic_ssl_server_credentials(given, changed, require_client_authentication=self._asks_clients)

    def not_after(self) -> float:
        """When it ends, in seconds since 1970."""
        return self._watched().not_after


def _read(files: CertificateFiles) -> _Served:
    contents = _contents(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # No password: a prompt would wait for somebody at a terminal.
        context.load_cert_chain(files.cert, files.key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise InvalidSetting(
            f"{files.cert} and {files.key} are not a certificate and its key in PEM, without a password: {error}",
            field="tls_cert",
        ) from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ValueError) as error:
            raise InvalidSetting(
                f"{files.client_ca} has no certificates in PEM: {error}", field="tls_client_ca"
            ) from None
    if _contents(files) != contents:
        raise InvalidSetting("the certificate's files were written while they were read", field="tls_cert")
    cert, key, *authorities = contents
    try:
        end = not_after(cert)
    except ValueError as error:
        raise InvalidSetting(f"{files.cert}: {error}", field="tls_cert") from None
    return _Served(
        grpc.ssl_server_certificate_configuration([(key, cert)], authorities[0] if authorities else None), end
    )


def _contents(files: CertificateFiles) -> list[bytes]:
    contents = []
    for path in files.paths:
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            raise InvalidSetting(f"{path} can't be read: {error.strerror}", field="tls_cert") from None
    return contents
