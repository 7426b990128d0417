"""What gRPC is told of the certificate that the service shows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from nearvote.rpc.certificates import CertificateFiles, ServedCertificate


def issue(files: CertificateFiles) -> None:
    issued = trustme.CA().issue_cert("localhost")
    files.key.write_bytes(issued.private_key_pem.bytes())
    files.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))


def test_a_certificate_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is told of a certificate only where it is another one."""
    files = CertificateFiles(tmp_path / "tls.pem", tmp_path / "tls.key", None)
    issue(files)
    given: list[Any] = []
    fetchers: list[Callable[[], Any]] = []

    def credentials(first: Any, fetch: Callable[[], Any], **_: object) -> None:
        given.append(first)
        fetchers.append(fetch)

    monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", credentials)
    ServedCertificate(files).credentials()
    (fetch,) = fetchers
    assert [fetch() for _ in range(3)] == [None] * 3
    issue(files)
    renewed = fetch()
    assert renewed is not None
    assert renewed is not given[0]
    assert fetch() is None
