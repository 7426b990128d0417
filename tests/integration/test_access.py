"""Who may do what, on the real server: TLS, certificates, keys, roles, and where it listens."""

import asyncio
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import trustme
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from nearvote.access import keys
from nearvote.access.caller import DEFAULT_TENANT, Role
from nearvote.access.key_file import change_keys
from nearvote.client import AsyncClient, Client, ServiceError, ServiceUnreachable
from nearvote.rpc.authorization import OPEN, RULES
from nearvote.v1.classification_service_pb2 import StreamClassifyRequest
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from tests.integration.conftest import Start
from tests.integration.server import Server, free_port, run
from tests.integration.test_peers import buf_curl
from tests.rpcs import BESIDE, OURS, Rpc

ROLES = ("classify", "curate", "admin")


def new_key(file: Path, name: str, role: str, tenant: str = DEFAULT_TENANT) -> str:
    """A new key in a file."""
    key, entry = keys.new_key(name, Role[role.upper()], tenant)
    change_keys(file, lambda present: (*present, entry))
    return key


class Certificates:
    """An authority, and the certificates that it gave."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.authority = trustme.CA()
        self.ca = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, authority: trustme.CA | None = None) -> tuple[str, str]:
        """Files of a certificate for this machine, of a common name, and of its key."""
        cert, key = str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")
        issued = (authority or self.authority).issue_cert("127.0.0.1", "localhost", common_name=name)
        Path(key).write_bytes(issued.private_key_pem.bytes())
        Path(cert).write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return cert, key

    def shown_by(self, name: str, authority: trustme.CA | None = None) -> dict[str, str]:
        """What a client with a certificate of its own shows."""
        cert, key = self.issue(name, authority)
        return {"tls_ca": self.ca, "tls_client_cert": cert, "tls_client_key": key}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority of the tests' own."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


def _serving(server: Server, **environment: str | Path) -> Server:
    server.environment |= {f"NEARVOTE_{name.upper()}": str(value) for name, value in environment.items()}
    return server.start()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, str]]]:
    """A server that asks for keys, and a key of each role."""
    folder = tmp_path_factory.mktemp("keyed")
    file = folder / "keys.toml"
    given = {role: new_key(file, role, role) for role in ROLES}
    server = Server(folder / "data", "--model", "hashing", "--no-seeds")
    _serving(server, api_keys=file)
    server.access["api_key"] = given["admin"]
    try:
        assert server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham").returncode == 0
        assert server.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize").returncode == 0
        yield server, given
    finally:
        server.stop()


def _refused(call: Callable[[], object]) -> tuple[str, str]:
    """Code and reason of a refusal; of another failure the code; nothing of what is answered."""
    try:
        call()
    except grpc.RpcError as error:
        status = rpc_status.from_call(cast("grpc.Call", error))
        info = error_details_pb2.ErrorInfo()
        if status is not None:
            assert status.details[0].Unpack(info)
        return cast("grpc.Call", error).code().name, info.reason
    return "OK", ""


@pytest.mark.parametrize("rpc", [*OURS, *BESIDE], ids=lambda rpc: rpc.path)
def test_every_rpc_is_held_to_its_role(keyed: tuple[Server, dict[str, str]], rpc: Rpc) -> None:
    """Each RPC is refused without a key, with a wrong one, and to lower roles; and to no other."""
    server, given = keyed
    if rpc.path in OPEN:
        if rpc.name != "Watch":  # which answers without end
            with server.channel() as channel:
                # One of them the library has declared and not made.
                assert _refused(lambda: rpc.call(channel))[0] in {"OK", "UNIMPLEMENTED"}
        return
    with server.channel() as channel:
        code, reason = _refused(lambda: rpc.call(channel))
        assert (code, reason) in {
            ("UNAUTHENTICATED", "CREDENTIALS_MISSING"),
            ("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"),  # all of these tests come from one address
        }
        code, _ = _refused(lambda: rpc.call(channel, key=given["admin"][:-1] + "x"))
        assert code in {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}
        for role in ROLES:
            code, reason = _refused(functools.partial(rpc.call, channel, key=given[role]))
            if Role[role.upper()] < RULES[rpc.path]:
                assert (code, reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED"), role
            else:
                assert code not in {"PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED"}, role


def test_neighbours_texts_take_a_role(keyed: tuple[Server, dict[str, str]]) -> None:
    """Who may only classify sees which examples voted, and not what they say: asking for it is refused."""
    server, given = keyed
    with server.client(api_key=given["classify"]) as client:
        neighbor = client.classify("win a prize", ["spam"]).predictions[0].neighbors[0]
        assert (neighbor.text, neighbor.labels) == ("", ("spam",))
        for call in (client.classify, lambda text, tasks, **options: client.classify_batch([text], tasks, **options)):
            with pytest.raises(ServiceError, match="role curate") as caught:
                call("win a prize", ["spam"], with_texts=True)
            assert (caught.value.code, caught.value.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
        (answer,) = client.classify_stream(["win a prize"], ["spam"], with_texts=True)
        assert answer.error is not None
        assert (answer.error.reason, answer.classification) == ("PERMISSION_DENIED", None)
    with server.client(api_key=given["curate"]) as client:
        seen = client.classify("win a prize", ["spam"], with_texts=True).predictions[0].neighbors[0]
        assert (seen.text, seen.example_id) == ("win a prize", neighbor.example_id)


def test_the_command_line_shows_a_key(keyed: tuple[Server, dict[str, str]]) -> None:
    """A key comes from the environment or an option; what a role may not see is left out; refusals end with 1."""
    server, given = keyed
    environment = {"NEARVOTE_ADDRESS": server.address, "NEARVOTE_API_KEY": given["classify"]}
    done = run("classify", "-t", "spam", "win a prize", **environment)
    assert done.returncode == 0, done.stderr
    with server.client() as client:
        (example,) = client.list_examples("spam")
    assert example.id in done.stdout
    assert "spam: win a prize" not in done.stdout
    assert "spam: win a prize" in server.cli("classify", "-t", "spam", "win a prize").stdout
    assert "you: classify, classify, tenant default" in run("info", **environment).stdout
    refused = run("examples", "add", "-t", "spam", "-l", "spam", "hello", **environment)
    assert (refused.returncode, "role curate" in refused.stderr) == (1, True)
    allowed = run("examples", "search", "-t", "spam", "prize", "--api-key", given["curate"], **environment)
    assert (allowed.returncode, "win a prize" in allowed.stdout) == (0, True)
    missing = run("info", NEARVOTE_ADDRESS=server.address)
    assert (missing.returncode, "Traceback" in missing.stderr) == (1, False)


def test_refusals_are_counted(keyed: tuple[Server, dict[str, str]]) -> None:
    """Calls that are refused for who called are counted by reason; the log names no key."""
    server, given = keyed
    with server.channel() as channel:
        for _ in range(12):
            _refused(lambda: OURS[0].call(channel, key="nearvote_12345678_wrong"))
    for reason in ("CREDENTIALS_UNKNOWN", "TOO_MANY_ATTEMPTS"):
        assert server.metric_with("nearvote_denied_calls_total", f'reason="{reason}"') > 0
    with server.client() as client:
        assert client.info().caller.name == "admin", "a right key is let in whatever else comes from its address"
    written = server.log.read_text()
    assert "call_denied" in written
    assert "wrong" not in written
    assert not any(key.split("_")[2] in written for key in given.values())


def test_keys_are_taken_up_under_way(start: Start, tmp_path: Path) -> None:
    """A key that was created or revoked counts at once; a broken file changes nothing, and the log says so."""
    file = tmp_path / "keys.toml"
    ops = new_key(file, "ops", "admin")
    server = start(NEARVOTE_API_KEYS=str(file))
    done = run("keys", "create", "--name", "new", "--role", "classify", "--tenant", "acme", "--file", str(file))
    assert done.returncode == 0, done.stderr
    new = done.stdout.strip()
    with server.client(api_key=new) as client, server.client(api_key=ops) as other:
        caller = client.info().caller
        assert (caller.name, caller.role, caller.tenant) == ("new", "classify", "acme")
        good = file.read_text()
        file.write_text(good + "[[key")
        assert client.info().caller == caller
        file.unlink()
        assert client.info().caller == caller
        file.write_text(good)
        assert client.info().caller == caller
        assert run("keys", "revoke", "--name", "new", "--file", str(file)).returncode == 0
        with pytest.raises(ServiceError, match="CREDENTIALS_UNKNOWN"):
            client.info()
        assert other.info().caller.name == "ops"
    written = server.log.read_text()
    assert written.count("not_reloaded") == 2
    assert "reloaded" in written
    listed = run("keys", "list", "--json", "--file", str(file)).stdout
    assert listed.count("\n") == 1
    assert ops.split("_")[2] not in listed


def test_a_stream_ends_when_its_key_is_revoked(start: Start, tmp_path: Path) -> None:
    """A stream that is open when its key is revoked is refused with its next request."""
    file = tmp_path / "keys.toml"
    key = new_key(file, "bot", "admin")
    server = start(NEARVOTE_API_KEYS=str(file))

    def requests() -> Iterator[StreamClassifyRequest]:
        yield StreamClassifyRequest(correlation_id="first", text="hello")
        change_keys(file, lambda _: [])
        yield StreamClassifyRequest(correlation_id="second", text="hello")

    with server.channel() as channel:
        stub: Any = ClassificationServiceStub(channel)
        answers = stub.StreamClassify(requests(), metadata=[("authorization", f"Bearer {key}")], timeout=60)
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            assert [answer.correlation_id for answer in answers] == ["first"]


def test_tls(certificates: Certificates, tmp_path: Path) -> None:
    """With a certificate the service speaks TLS alone, to clients that trust its authority, and asks for keys in it."""
    cert, key = certificates.issue("service.example")
    file = tmp_path / "keys.toml"
    ops = new_key(file, "ops", "admin")
    server = Server(tmp_path / "data", "--model", "hashing", "--no-seeds")
    server.access = {"tls_ca": certificates.ca, "api_key": ops}
    try:
        _serving(server, tls_cert=cert, tls_key=key, api_keys=file)
        assert server.cli("info").returncode == 0
        with server.client() as client:
            assert client.info().caller.name == "ops"

        async def ask() -> str:
            async with AsyncClient(server.address, api_key=ops, tls_ca=certificates.ca) as client:
                (answer,) = [answer async for answer in client.classify_stream(["hello"])]
                assert answer.error is None
                return (await client.info()).caller.name

        assert asyncio.run(ask()) == "ops"
        stranger = Certificates(tmp_path / "other")
        for authority in (stranger.ca, None):
            with (
                Client(server.address, timeout_seconds=5, tls_ca=authority) as client,
                pytest.raises(ServiceUnreachable),
            ):
                client.info()
        done = run("info", "--tls-ca", stranger.ca, NEARVOTE_ADDRESS=server.address)
        assert (done.returncode, "--tls-ca" in done.stderr) == (3, True)
        done = run("info", "--tls-ca", str(tmp_path / "nowhere.pem"), NEARVOTE_ADDRESS=server.address)
        assert (done.returncode, "nowhere.pem" in done.stderr) == (2, True)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ({"tls_client_cert": "a.pem"}, "go together"),
        ({"tls_client_cert": "a.pem", "tls_client_key": "a.key"}, "tls_ca"),
        ({"api_key": "a\nb"}, "ASCII"),
        ({"api_key": "é"}, "ASCII"),
        ({"api_key": "key", "address": "nearvote.example:50051"}, "allow_insecure"),
        ({"api_key": "key", "address": "192.0.2.7:50051"}, "tls_ca"),
        ({"api_key": "key", "address": "dns:///localhost.example:50051"}, "on its way"),
    ],
)
def test_what_can_not_be_shown(shown: dict[str, str], said: str) -> None:
    """What a client shows is checked before it is sent; on the command line it is wrong usage."""
    arguments: dict[str, Any] = dict(shown)
    with pytest.raises(ValueError, match=said):
        Client(**arguments)
    with pytest.raises(ValueError, match=said):
        AsyncClient(**arguments)
    done = run("info", **{f"NEARVOTE_{name.upper()}": value for name, value in shown.items()})
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False)


async def test_where_a_key_may_go() -> None:
    """A key goes without TLS to this machine, and elsewhere where that is allowed; what has no key, anywhere."""
    for address in ("127.0.0.1:50051", "localhost:50051", "[::1]:50051", "unix:/run/nearvote"):
        Client(address, api_key="key").close()
    Client("192.0.2.7:50051").close()
    Client("192.0.2.7:50051", api_key="key", allow_insecure=True).close()
    await AsyncClient("192.0.2.7:50051", api_key="key", allow_insecure=True).close()
    elsewhere = {"NEARVOTE_API_KEY": "key", "NEARVOTE_ADDRESS": f"0.0.0.0:{free_port()}"}
    assert run("info", **elsewhere).returncode == 2
    assert run("info", "--allow-insecure", **elsewhere).returncode == 3, "it may, and nobody is there"
    assert run("info", **elsewhere, NEARVOTE_ALLOW_INSECURE="true").returncode == 3


def test_client_certificates(certificates: Certificates, tmp_path: Path) -> None:
    """Clients without a certificate of the right authority get no connection; a common name has its entry's role."""
    cert, key = certificates.issue("service.example")
    file = tmp_path / "keys.toml"
    done = run("keys", "create", "-n", "mail", "-r", "curate", "--tenant", "acme", "--certificate", "mail.example",
               "-f", str(file))  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    ops = new_key(file, "ops", "admin")
    server = Server(tmp_path / "data", "--model", "hashing", "--no-seeds")
    server.access = certificates.shown_by("mail.example")
    try:
        _serving(server, tls_cert=cert, tls_key=key, tls_client_ca=certificates.ca, api_keys=file)
        with server.client() as client:
            caller = client.info().caller
            assert (caller.name, caller.role, caller.tenant) == ("mail", "curate", "acme")
            with pytest.raises(ServiceError, match="PERMISSION_DENIED"):
                client.delete_task("spam")
        with server.client(api_key=ops) as client:
            assert client.info().caller.role == "admin"
        unknown = certificates.shown_by("unknown.example")
        with server.client(**unknown) as client, pytest.raises(ServiceError, match="CREDENTIALS_UNKNOWN"):
            client.info()
        forged = certificates.shown_by("forged.example", trustme.CA())
        for cert_, key_ in ((forged["tls_client_cert"], forged["tls_client_key"]), (None, None)):
            shown = Client(
                server.address,
                timeout_seconds=5,
                api_key=ops,
                tls_ca=certificates.ca,
                tls_client_cert=cert_,
                tls_client_key=key_,
            )
            with shown as client, pytest.raises(ServiceUnreachable):
                client.info()
        server.stop()
        del server.environment["NEARVOTE_API_KEYS"]
        server.start()
        with server.client() as client:
            caller = client.info().caller
        assert (caller.name, caller.role, caller.tenant) == ("mail.example", "classify", "default")
    finally:
        server.stop()


def test_certificates_are_taken_up_under_way(tmp_path: Path) -> None:
    """A new certificate is shown from the next connection on; while its files are broken the former one is."""
    first, second = Certificates(tmp_path / "first"), Certificates(tmp_path / "second")
    cert, key = first.issue("service.example")
    new_cert, new_key_ = (Path(path).read_bytes() for path in second.issue("service.example"))
    server = Server(tmp_path / "data", "--model", "hashing", "--no-seeds")
    server.access = {"tls_ca": first.ca}

    def is_trusted_by(authority: Certificates) -> bool:
        try:
            with Client(server.address, timeout_seconds=5, tls_ca=authority.ca) as client:
                client.info()
        except ServiceUnreachable:
            return False
        return True

    try:
        _serving(server, tls_cert=cert, tls_key=key)
        with server.client() as client:
            client.info()
            assert (is_trusted_by(first), is_trusted_by(second)) == (True, False)
            Path(cert).write_bytes(new_cert)  # the key is still of the former
            assert (is_trusted_by(first), is_trusted_by(second)) == (True, False)
            Path(key).write_bytes(new_key_)
            assert (is_trusted_by(first), is_trusted_by(second)) == (False, True)
            Path(cert).write_text("broken")
            assert (is_trusted_by(first), is_trusted_by(second)) == (False, True)
            client.info()  # who is connected already stays so
        written = server.log.read_text()
        assert written.count("not_reloaded") == 2
        assert "PRIVATE" not in written
    finally:
        server.stop()


EVERYWHERE = "0.0.0.0"  # noqa: S104 - that is what is refused


@pytest.mark.parametrize(
    ("with_keys", "with_tls", "said"),
    [
        (False, False, "anybody could call"),
        (False, True, "anybody could call"),
        (True, False, "in the clear"),
    ],
)
def test_other_machines_are_not_served_without_a_word(
    tmp_path: Path,
    certificates: Certificates,
    with_keys: bool,  # noqa: FBT001
    with_tls: bool,  # noqa: FBT001
    said: str,
) -> None:
    """Where others reach it, a service that does not ask who calls, or takes keys in the clear, won't start."""
    environment = {"NEARVOTE_ADDRESS": f"{EVERYWHERE}:{free_port()}", "NEARVOTE_METRICS_ADDRESS": "off"}
    if with_keys:
        file = tmp_path / "keys.toml"
        new_key(file, "ops", "admin")
        environment["NEARVOTE_API_KEYS"] = str(file)
    if with_tls:
        cert, key = certificates.issue("service.example")
        environment |= {"NEARVOTE_TLS_CERT": cert, "NEARVOTE_TLS_KEY": key}
    done = run("serve", "--model", "hashing", "--data-dir", str(tmp_path / "data"), **environment)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert said in done.stderr
    assert "allow_insecure" in done.stderr
    assert not (tmp_path / "data").exists()


def test_other_machines_are_served_when_told_so(tmp_path: Path) -> None:
    """With allow_insecure the service listens where it is told to; so it does with keys and TLS."""
    server = Server(tmp_path / "data", "--model", "hashing", "--no-seeds")
    port = server.address.rpartition(":")[2]
    server.flags = (*server.flags, "--address", f"{EVERYWHERE}:{port}")  # the later flag counts
    try:
        _serving(server, allow_insecure="true")
        assert server.cli("info").returncode == 0
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"NEARVOTE_TLS_CERT": "/nowhere.pem"}, "tls_cert and tls_key"),
        ({"NEARVOTE_TLS_CLIENT_CA": "/nowhere.pem"}, "tls_client_ca"),
        ({"NEARVOTE_TLS_CERT": "/nowhere.pem", "NEARVOTE_TLS_KEY": "/nowhere.key"}, "/nowhere.pem can't be read"),
        ({"NEARVOTE_API_KEYS": "/nowhere.toml"}, "nearvote keys create"),
    ],
)
def test_broken_files_are_refused_at_the_start(tmp_path: Path, environment: dict[str, str], said: str) -> None:
    """A certificate or a file of keys that can't be used ends the start, rather than to serve without."""
    done = run("serve", "--model", "hashing", "--data-dir", str(tmp_path / "data"), **environment)
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_reflection_can_be_closed(start: Start) -> None:
    """With reflection=false a client that knows nothing of the contract learns nothing; ours work as ever."""
    server = start(NEARVOTE_REFLECTION="false")
    (reflection,) = (rpc for rpc in BESIDE if rpc.path not in OPEN)
    with server.channel() as channel:
        assert _refused(lambda: reflection.call(channel))[0] == "UNIMPLEMENTED"
    assert buf_curl(server, "nearvote.v1.InfoService/GetInfo", {}).returncode != 0
    assert server.cli("info").returncode == 0
