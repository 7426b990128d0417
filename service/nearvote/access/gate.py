"""Who calls: found out from a key or a certificate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from nearvote.access.attempts import Attempts, host_of
from nearvote.access.caller import DEFAULT_TENANT, Caller, Role
from nearvote.access.keys import Entry, KeyRing, id_of
from nearvote.errors import (
    AccessDenied,
    CredentialsMissing,
    CredentialsUnknown,
    PermissionDenied,
    TooManyAttempts,
)

_log = structlog.get_logger(__name__)

_SCHEME = "bearer"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller shows.

    Attributes:
        authorization: The values of the header `authorization`.
        common_name: That of the certificate which the transport has verified; empty for none.
        address: Where the call comes from, as gRPC writes it.
    """

    authorization: Sequence[str] = ()
    common_name: str = ""
    address: str = ""


class Gate:
    """Tells who calls, and keeps out who may not.

    Args:
        keys: The keys as they are now; None where no file of them is set.
        certificates: Whether the transport asks for client certificates.
        attempts: Counts failed attempts.
        denied: Told the reason of each call that is refused here.
    """

    def __init__(
        self,
        keys: Callable[[], KeyRing] | None,
        *,
        certificates: bool,
        attempts: Attempts,
        denied: Callable[[str], None],
    ) -> None:
        self._keys = keys
        self._certificates = certificates
        self._attempts = attempts
        self._denied = denied

    @property
    def tenants(self) -> frozenset[str]:
        """Everybody whose tasks and examples may be called for."""
        return frozenset({DEFAULT_TENANT}) | (self._keys().tenants if self._keys else frozenset())

    def admit(self, credentials: Credentials, needed: Role | None, method: str) -> Caller:
        """Who calls, if they may.

        Args:
            credentials: What the caller shows.
            needed: The least role that may; None where nobody may.
            method: What is called, for the log.

        Raises:
            CredentialsMissing: The caller shows nothing.
            CredentialsUnknown: What the caller shows is nobody's.
            PermissionDenied: The caller's role does not do.
            TooManyAttempts: Neither is this the first time.
        """
        try:
            caller = self._caller(credentials)
            if needed is None or caller.role < needed:
                raise PermissionDenied(_needs(needed, caller.role))
        except AccessDenied as error:
            refusal = self._counted(error, credentials)
            self._denied(refusal.reason)
            if not isinstance(refusal, TooManyAttempts):  # else the log would be as long as there are attempts
                _log.warning(
                    "call_denied", reason=refusal.reason, method=method, address=credentials.address,
                    key_id=id_of(_key(credentials.authorization)) or None,
                )  # fmt: skip
            raise refusal from None
        return caller

    def _caller(self, credentials: Credentials) -> Caller:
        address, common_name = credentials.address, credentials.common_name
        if self._keys is None:
            if not self._certificates:
                return Caller(address=address)
            if not common_name:
                raise CredentialsUnknown("this certificate has no common name: use one that has")
            # Its authority vouches for who it is, not for what it may do.
            return Caller(role=Role.CLASSIFY, name=common_name, address=address)
        keys = self._keys()
        if credentials.authorization:
            entry = keys.of_key(_key(credentials.authorization))
            if entry is None:
                raise CredentialsUnknown("this key is not known, or is revoked: ask for another one")
        elif common_name:
            entry = keys.of_certificate(common_name)
            if entry is None:
                raise CredentialsUnknown(
                    "this certificate's common name has no entry: send a key, or add it with "
                    "`nearvote keys create --certificate`"
                )
        else:
            raise CredentialsMissing(
                "this service asks who calls: send a key as `authorization: Bearer KEY`; for the command line set "
                "NEARVOTE_API_KEY"
            )
        return _caller_of(entry, address)

    def _counted(self, error: AccessDenied, credentials: Credentials) -> AccessDenied:
        if isinstance(error, PermissionDenied):  # it is known who that is
            return error
        wait_seconds = self._attempts.failed(host_of(credentials.address))
        if not wait_seconds:
            return error
        return TooManyAttempts(
            f"too many failed attempts from this address: try again in {wait_seconds:.0f} s", retry_seconds=wait_seconds
        )


def _caller_of(entry: Entry, address: str) -> Caller:
    return Caller(tenant=entry.tenant, role=entry.role, name=entry.name, address=address)


def _key(authorization: Sequence[str]) -> str:
    """The key of a header; empty when it has none, or when there are several headers."""
    scheme, _, key = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
    return key.strip() if scheme.lower() == _SCHEME else ""


def _needs(needed: Role | None, has: Role) -> str:
    if needed is None:
        return "nobody may call this: there is no rule for it"
    return f"this takes the role {needed.name.lower()}, and the caller's is {has.name.lower()}: use another key"
