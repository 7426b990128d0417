"""`nearvote health`: what a container's health check and an exec probe run."""

from typing import Annotated, Any, NoReturn

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nearvote.cli.access import given
from nearvote.cli.output import ADDRESS, Address, Exit, fail, out
from nearvote.client.access import Access
from nearvote.client.errors import ClientError


def health(
    service: Annotated[
        str, typer.Argument(help="Full name, such as nearvote.v1.ClassificationService; the whole process without one.")
    ] = "",
    timeout_seconds: Annotated[float, typer.Option("--timeout", min=0.1, help="How long to wait, in seconds.")] = 3.0,
    server_name: Annotated[
        str | None,
        typer.Option(envvar="NEARVOTE_SERVER_NAME", help="Name that the certificate is for, when not the address's."),
    ] = None,
    address: Address = ADDRESS,
) -> None:
    """Ask the service how it is. Ends with 0 when it is serving, 1 when it is not, 3 when nobody answers."""
    options = [("grpc.ssl_target_name_override", server_name)] if server_name else []
    try:
        credentials = Access(**given()).credentials
    except (ClientError, ValueError) as error:  # what was said of certificates can't be right
        fail(str(error), Exit.USAGE)
    if credentials is None:
        channel = grpc.insecure_channel(address, options)
    else:
        channel = grpc.secure_channel(address, credentials, options)
    with channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_seconds)
        except grpc.RpcError as error:
            _fail(error, address, service)
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        fail(status, Exit.FAILED)
    out.print(status, highlight=False)


def _fail(error: Any, address: str, service: str) -> NoReturn:
    code = error.code()
    if code is grpc.StatusCode.NOT_FOUND:
        fail(f"there is no service {service} at {address}", Exit.USAGE)
    if code is grpc.StatusCode.UNAVAILABLE:
        trust = ", or it and this client do not trust one another's certificates" if given().get("tls_ca") else ""
        fail(f"nobody answers at {address}{trust}", Exit.NO_SERVICE)
    fail(f"{address} did not say how it is: {code.name}", Exit.FAILED)
