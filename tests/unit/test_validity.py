"""When a certificate ends."""

import base64
from datetime import UTC, datetime

import pytest
import trustme

from nearvote.access.validity import not_after

_ENDS = [
    datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2030, 2, 28, tzinfo=UTC),
    datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2050, 1, 1, tzinfo=UTC),  # from here on the year has four digits
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
]


def certificate(end: datetime) -> bytes:
    """A certificate that ends then, in PEM."""
    began = datetime(1990, 1, 1, tzinfo=UTC)
    issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("a.example", not_before=began, not_after=end)
    return issued.cert_chain_pems[0].bytes()


@pytest.mark.parametrize("end", _ENDS, ids=lambda end: str(end.year))
def test_the_end_is_read(end: datetime) -> None:
    """The end is that which the certificate was made with, on both sides of 2050."""
    assert not_after(certificate(end)) == end.timestamp()


def test_the_first_certificate_of_a_file_counts() -> None:
    """Text around it, a key and what comes behind it in the chain change nothing."""
    issued = trustme.CA().issue_cert("a.example", not_after=_ENDS[1])
    key, own = issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()
    assert not_after("Größe\n".encode() + key + own + certificate(_ENDS[3])) == _ENDS[1].timestamp()


def test_what_is_cut_short_is_refused() -> None:
    """A certificate of which a part is missing is refused, wherever it was cut."""
    lines = certificate(_ENDS[1]).decode().splitlines()
    der = base64.b64decode("".join(lines[1:-1]))
    for length in range(len(der)):
        body = base64.b64encode(der[:length]).decode()
        with pytest.raises(ValueError, match="can't be read"):
            not_after(f"{lines[0]}\n{body}\n{lines[-1]}\n".encode())
    with pytest.raises(ValueError, match="no certificate"):
        not_after("\n".join(lines[:-1]).encode())
