"""API keys and client certificates: who each stands for. Of a key only its hash is ever kept."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from nearvote.access.caller import DEFAULT_TENANT, Role
from nearvote.startup_errors import InvalidSetting

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ID = re.compile(r"[0-9a-f]{8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PREFIX = "nearvote"
_MAX_KEY = 200  # characters; ours are shorter
_MAX_COMMON_NAME = 64  # characters, as X.509 has it
_NO_HASH = "0" * 64  # of no key: what a key is compared with whose id nobody has


@dataclass(frozen=True, slots=True)
class Entry:
    """Somebody who may call, known by a key or by a certificate.

    Attributes:
        name: What the caller is called in logs; 1 to 64 letters, digits, '.', '_', '-'.
        role: What the caller may do.
        tenant: Whose tasks and examples are read and written; 1 to 64 characters of a-z, 0-9, '_', '-'.
        id: The readable part of the key, 8 hexadecimal digits; empty for a certificate.
        sha256: Hash of the whole key, in hexadecimal; empty for a certificate.
        certificate: Common name of the client certificate; empty for a key.
        created: When it was made, for people; may be empty.
    """

    name: str
    role: Role
    tenant: str = DEFAULT_TENANT
    id: str = ""
    sha256: str = ""
    certificate: str = ""
    created: str = ""

    def check(self) -> None:
        """Checks that it can be right.

        Raises:
            InvalidSetting: It can't; the message says why.
        """
        if not _NAME.fullmatch(self.name):
            raise InvalidSetting("a name is 1 to 64 letters, digits, '.', '_' or '-'", field="name")
        if not _TENANT.fullmatch(self.tenant):
            raise InvalidSetting(
                "a tenant is 1 to 64 of a-z, 0-9, '_', '-', beginning with a letter or digit", field="tenant"
            )
        if self.certificate:
            if self.id or self.sha256:
                raise InvalidSetting("an entry is of a key or of a certificate, not of both", field="certificate")
            if len(self.certificate) > _MAX_COMMON_NAME or not self.certificate.isprintable():
                raise InvalidSetting("a certificate is named by its common name", field="certificate")
        elif not _ID.fullmatch(self.id) or not _SHA256.fullmatch(self.sha256):
            raise InvalidSetting("a key has an `id` of 8 and a `sha256` of 64 hexadecimal digits", field="sha256")


def new_key(name: str, role: Role, tenant: str) -> tuple[str, Entry]:
    """A new random key of 256 bits, and the entry that knows it by its hash alone."""
    id_ = secrets.token_hex(4)
    key = f"{_PREFIX}_{id_}_{secrets.token_hex(32)}"
    return key, Entry(name, role, tenant, id_, _hash(key))


def id_of(key: str) -> str:
    """The readable part of a key; empty for what is no key."""
    parts = key.split("_") if len(key) <= _MAX_KEY else []
    return parts[1] if len(parts) == 3 and parts[0] == _PREFIX and _ID.fullmatch(parts[1]) else ""  # noqa: PLR2004


class KeyRing:
    """Everybody who may call.

    Args:
        entries: Who they are.

    Raises:
        InvalidSetting: An entry can't be right, or two share a name, an id or a certificate.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._by_id: dict[str, Entry] = {}
        self._by_certificate: dict[str, Entry] = {}
        names: set[str] = set()
        for entry in self.entries:
            entry.check()
            known = self._by_certificate if entry.certificate else self._by_id
            if entry.name in names or (entry.certificate or entry.id) in known:
                raise InvalidSetting(
                    f"there are two entries of the name, id or certificate of {entry.name}", field="name"
                )
            names.add(entry.name)
            known[entry.certificate or entry.id] = entry

    @property
    def tenants(self) -> frozenset[str]:
        """All tenants that somebody may call for."""
        return frozenset(entry.tenant for entry in self.entries)

    def of_key(self, key: str) -> Entry | None:
        """Whose key it is; None for nobody's. How long it takes does not depend on how much of the secret is right."""
        entry = self._by_id.get(id_of(key))
        is_right = hmac.compare_digest(_hash(key[:_MAX_KEY]), entry.sha256 if entry else _NO_HASH)
        return entry if is_right else None

    def of_certificate(self, common_name: str) -> Entry | None:
        """Whose certificate it is; None for nobody's."""
        return self._by_certificate.get(common_name) if common_name else None


def _hash(key: str) -> str:
    # A key is random, all 256 bits of it: unlike a password it needs no slow hash.
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
