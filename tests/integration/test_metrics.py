"""Metrics, as Prometheus sees them."""

import re
import shutil
import subprocess
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from nearvote import Client
from nearvote.client import Policy
from nearvote.v1.classification_service_pb2 import BatchClassifyRequest
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from tests.integration.conftest import Start
from tests.integration.prometheus import prometheus
from tests.integration.server import Server, wait_until


def exercise(server: Server) -> None:
    """One of everything that is counted."""
    server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham")
    with server.client() as client:
        client.add_example("spam", "win a prize", ["spam"])
        client.start_shadow("spam", Policy(similarity_floor=-1.0), share=1.0)
        client.classify("win a prize", ["spam"])
        client.classify("something else entirely", ["spam"])
        client.classify("", ["spam"])
        client.submit_feedback("a key", "spam", ["ham"], source="somebody", text="hello")
        list(client.classify_stream(["win a prize"] * 3, ["spam"]))
    assert server.cli("classify", "-t", "nope", "hello").returncode == 1


def test_every_metric_moves(start: Start) -> None:
    """Each metric counts what it says, under the labels that dashboards for gRPC know."""
    server = start()
    before = server.metrics()
    exercise(server)
    after = server.metrics()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    service = 'grpc_service="nearvote.v1.ClassificationService"'
    assert grown(f'grpc_server_started_total{{grpc_method="Classify",{service},grpc_type="unary"}}') == 3
    assert grown(f'grpc_server_handled_total{{grpc_code="OK",grpc_method="Classify",{service},grpc_type="unary"}}') == 3
    stream = f'grpc_method="StreamClassify",{service},grpc_type="bidi_stream"'
    assert grown(f'grpc_server_handled_total{{grpc_code="OK",{stream}}}') == 2
    assert grown(f"grpc_server_handling_seconds_count{{{stream}}}") == 2
    assert grown('nearvote_predictions_total{label="spam",task="spam",tenant="default"}') == 4
    assert grown('nearvote_abstentions_total{reason="TOO_FAR",task="spam",tenant="default"}') == 1
    assert grown('nearvote_abstentions_total{reason="NO_TEXT",task="spam",tenant="default"}') == 1
    assert grown('nearvote_top_similarity_count{task="spam",tenant="default"}') == 5
    assert grown('nearvote_margin_count{task="spam",tenant="default"}') == 5
    assert grown('nearvote_feedback_total{outcome="submitted",task="spam",tenant="default"}') == 1
    assert grown("nearvote_encoder_batch_windows_sum") == 3, "the example and two messages; the others were known"
    assert grown("nearvote_encoder_batch_padded_tokens_sum") == 9
    assert grown("nearvote_embedding_cache_hits_total") == 3
    assert grown("nearvote_embedding_cache_misses_total") == 3
    assert after["nearvote_embedding_cache_bytes"] > before["nearvote_embedding_cache_bytes"]
    for stage in ("clean", "embed", "search", "vote"):
        assert grown(f'nearvote_stage_duration_seconds_count{{stage="{stage}"}}') == 6
        assert grown(f'nearvote_stage_duration_seconds_sum{{stage="{stage}"}}') > 0
    assert grown('nearvote_stage_duration_seconds_count{stage="queue"}') == 6
    assert after["nearvote_encoder_queue_windows"] == 0
    of_spam = ('task="spam"', 'tenant="default"')
    wait_until(lambda: server.metric_with("nearvote_shadow_predictions_total", 'outcome="agree"', *of_spam) == 5)
    assert server.metric_with("nearvote_shadow_predictions_total", 'outcome="differ"', *of_spam) == 1
    moved = ('from="TOO_FAR"', 'of="label"', 'to="spam"')
    assert server.metric_with("nearvote_shadow_changes_total", *moved, *of_spam) == 1
    assert next(name for name in after if name.startswith("nearvote_build_info")).count('engine="hashing"') == 1
    assert server.metric_with("nearvote_examples", 'label="spam"', 'task="spam"') == 1
    assert after['nearvote_component_healthy{component="store"}'] == 1
    assert after['nearvote_component_healthy{component="encoder"}'] == 1
    assert after['nearvote_component_healthy{component="writes"}'] == 1


def test_calls_are_counted_from_zero(start: Start) -> None:
    """What no call has done yet is there as 0, so that the first change, or failure, is seen as growth."""
    server = start()
    for code in ("OK", "ResourceExhausted", "Internal"):
        assert server.metric_with("grpc_server_handled_total", f'grpc_code="{code}"', 'grpc_method="StartFit"') == 0
    assert server.metric_with("grpc_server_started_total", 'grpc_method="StreamClassify"', "bidi_stream") == 0


def test_the_version_of_a_task_follows_its_changes(plain: Server) -> None:
    """The version of a task's policy goes up with an update, and goes away with the task."""
    name = 'nearvote_policy_version{task="spam",tenant="default"}'
    assert plain.metric_with(name) == 1
    assert plain.cli("tasks", "update", "spam", "--margin-floor", "0.2").returncode == 0
    wait_until(lambda: plain.metrics()[name] == 2)
    assert plain.cli("tasks", "delete", "spam", "--force").returncode == 0
    wait_until(lambda: name not in plain.metrics())


def test_the_series_of_a_task_go_with_it(start: Start) -> None:
    """What was counted of a task that is deleted goes away; what was counted of others stays."""
    server = start()
    exercise(server)
    server.cli("tasks", "create", "other", "-l", "a")
    server.cli("classify", "-t", "other", "hello")
    wait_until(lambda: server.metric_with("nearvote_shadow_changes_total", 'task="spam"') == 1)
    server.cli("tasks", "delete", "spam", "--force")
    wait_until(lambda: not [name for name in server.metrics() if 'task="spam"' in name])
    assert server.metric_with("nearvote_abstentions_total", 'task="other"') == 1


def test_the_end_of_the_certificate_follows_its_file(plain: Server, tmp_path: Path) -> None:
    """The end of the certificate is that of the file, without a restart or a call; without TLS it is 0."""
    name = "nearvote_tls_certificate_not_after_seconds"
    authority = trustme.CA()
    cert, key, ca = (tmp_path / name for name in ("tls.pem", "tls.key", "ca.pem"))
    authority.cert_pem.write_to_path(str(ca))

    def issue(end: datetime) -> float:
        issued = authority.issue_cert("127.0.0.1", not_after=end)
        issued.private_key_pem.write_to_path(str(key))
        issued.cert_chain_pems[0].write_to_path(str(cert))
        return end.timestamp()

    ends = [datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) for days in (10, 90)]
    first = issue(ends[0])
    server = Server(tmp_path / "tls", "--model", "hashing", "--no-seeds")
    server.environment |= {"NEARVOTE_TLS_CERT": str(cert), "NEARVOTE_TLS_KEY": str(key)}
    server.access = {"tls_ca": str(ca)}
    try:
        server.start()
        assert server.metrics()[name] == first
        second = issue(ends[1])
        assert server.metrics()[name] == second
        cert.write_text("broken")
        assert server.metrics()[name] == second, "the former one is shown"
    finally:
        server.stop()
    assert plain.metrics()[name] == 0


def test_a_refused_call_is_counted_by_its_code(start: Start) -> None:
    """A call that is refused is handled under its code, in the spelling of go-grpc-middleware."""
    server = start()
    with server.client() as client, pytest.raises(Exception, match="TASK_NOT_FOUND"):
        client.classify("hello", ["nope"])
    assert server.metric_with("grpc_server_handled_total", 'grpc_code="NotFound"', 'grpc_method="Classify"') == 1


def test_a_call_that_was_given_up_is_counted_as_such(start: Start) -> None:
    """A call past its deadline and one that was cancelled are not counted as OK."""
    server = start()
    exercise(server)
    slow = [f"{'word ' * 12_000}{i}" for i in range(32)]  # seconds of work
    with Client(server.address, timeout_seconds=0.3) as client, pytest.raises(Exception, match="DEADLINE_EXCEEDED"):
        client.classify_batch(slow, ["spam"])
    assert server.metric_with('grpc_code="DeadlineExceeded"', 'grpc_method="BatchClassify"') == 1
    with server.channel() as channel:
        stub = ClassificationServiceStub(channel)
        call = stub.BatchClassify.future(BatchClassifyRequest(texts=slow, tasks=["spam"]))
        server.metric_with("grpc_server_started_total", 'grpc_method="BatchClassify"')
        call.cancel()
    assert server.metric_with('grpc_code="Canceled"', 'grpc_method="BatchClassify"') == 1
    assert server.metric_with('grpc_code="OK"', 'grpc_method="BatchClassify"') == 0


def test_promtool_has_nothing_to_say(start: Start) -> None:
    """The linter of Prometheus finds nothing wrong with names, types and help."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    server = start()
    exercise(server)
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=10) as response:
        text = response.read()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_prometheus_reads_them_back(start: Start, tmp_path: Path) -> None:
    """The real Prometheus scrapes the real service, and PromQL answers with what happened."""
    server = start()
    exercise(server)
    with prometheus(tmp_path, server.metrics_address) as running:
        assert running.value('sum(nearvote_predictions_total{task="spam"})') == 4
        assert running.value("sum(nearvote_abstentions_total)") == 2
        assert running.value('sum(grpc_server_handled_total{grpc_method="Classify"})') == 3
        assert running.value("nearvote_build_info") == 1


def test_metrics_can_be_switched_off(start: Start) -> None:
    """With --metrics-address off nothing listens."""
    server = start("--metrics-address", "off")
    with pytest.raises(OSError, match=r"[Rr]efused"):
        server.metrics()


def test_the_readme_names_every_metric(plain: Server) -> None:
    """The README's table of metrics has each of the service's own, and no other."""
    exercise(plain)
    plain.metric_with("nearvote_examples")
    plain.metric_with("nearvote_shadow_changes_total")
    exported = {re.sub(r"(_bucket|_sum|_count)?(\{.*)?$", "", name) for name in plain.metrics()}
    own = {name for name in exported if name.startswith(("nearvote_", "grpc_"))}
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert set(re.findall(r"`((?:nearvote|grpc)_[a-z_]+)`", readme)) == own
