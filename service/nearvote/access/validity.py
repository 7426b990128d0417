"""When a certificate ends, from its DER encoding (X.690): the standard library has no public reader for it."""

import ssl
from datetime import UTC, datetime

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_LONG_FORM = 0x80  # a length of so many bytes more
_VERSION, _UTC_TIME = 0xA0, 0x17


def not_after(pem: bytes) -> float:
    """When the first certificate of a file ends.

    Args:
        pem: The file, with whatever else is in it.

    Returns:
        Seconds since 1970.

    Raises:
        ValueError: There is no certificate, or it is not encoded as RFC 5280 says.
    """
    text = pem.decode("ascii", errors="replace")
    begin, end = text.find(_BEGIN), text.find(_END)
    if not 0 <= begin < end:
        raise ValueError("there is no certificate in PEM")
    try:
        ((_, certificate),) = _elements(ssl.PEM_cert_to_DER_cert(text[begin : end + len(_END)]))
        signed = _elements(_elements(certificate)[0][1])
        # Version, which may be left out, serial number, signature, issuer, validity.
        _, validity = signed[4 if signed[0][0] == _VERSION else 3]
        _, (kind, time) = _elements(validity)
        digits = time.decode("ascii")
        if kind == _UTC_TIME:  # two digits for the year, from 1950 to 2049: RFC 5280, 4.1.2.5.1
            digits = ("19" if digits >= "50" else "20") + digits
        return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (ValueError, IndexError) as error:
        raise ValueError(f"the certificate can't be read: {error}") from None


def _elements(encoded: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each element of an encoding."""
    elements = []
    at = 0
    while at < len(encoded):
        tag, length = encoded[at], encoded[at + 1]
        at += 2
        if length & _LONG_FORM:
            size = length & ~_LONG_FORM
            length = int.from_bytes(encoded[at : at + size], "big")
            at += size
        if at + length > len(encoded):
            raise ValueError("it ends in the middle")
        elements.append((tag, encoded[at : at + length]))
        at += length
    return elements
