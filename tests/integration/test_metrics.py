"""/metrics on a listener of its own, the access log, and spans of jobs: what an operator watches."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.api import request
from tests.integration.conftest import Stack, until

pytestmark = pytest.mark.root

ADDRESS = "127.0.0.1:9323"
COLLECTOR = "127.0.0.1:4318"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    made = Stack(
        Path(mkdtemp(prefix="dy", dir="/tmp")), DOCKYARD_METRICS_ADDR=ADDRESS, DOCKYARD_ACCESS_LOG="true",
        DOCKYARD_OTLP_ENDPOINT=f"http://{COLLECTOR}/v1/traces", OTEL_BSP_SCHEDULE_DELAY="200",
    )  # fmt: skip
    made.start()
    made.dockyard("busybox")
    yield made
    made.close()


def inside(stack: Stack, *command: str) -> str:
    assert stack.process is not None
    words = ["nsenter", f"--net=/proc/{stack.process.pid}/ns/net", *command]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout


def metrics(stack: Stack) -> dict[str, dict[tuple[str, ...], float]]:
    """Return sample name → values of its labels → value, in the order of the labels' names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    text = inside(stack, "busybox", "wget", "-qO-", f"http://{ADDRESS}/metrics")
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = tuple(sample.labels[name] for name in sorted(sample.labels))
            found.setdefault(sample.name, {})[key] = sample.value
    return found


def test_requests_jobs_containers_and_processes_are_told(stack: Stack) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "600")
    stack.docker("kill", "nobody", check=False)
    seen = until(lambda: (found := metrics(stack)) and found["dockyard_containers"][("running",)] == 1 and found)
    requests = seen["dockyard_http_requests_total"]
    assert requests["201", "POST", "/containers/create"] == 1
    assert requests["404", "POST", "/containers/{}/kill"] == 1
    assert seen["dockyard_http_request_duration_seconds_count"]["POST", "/containers/create"] == 1
    jobs = seen["dockyard_job_duration_seconds_count"]
    assert (jobs["ok", "create"], jobs["not_found", "kill"]) == (1, 1)
    assert seen["dockyard_engine_up"][()] == 1
    services = {key[1] for key, value in seen["dockyard_process_memory_bytes"].items() if value > 1 << 20}
    assert {"engine", "apiserver", "execdriver", "netdriver", "graphdriver"} <= services
    stack.docker("rm", "-f", "web")


def test_counts_outlive_the_worker_that_counted(stack: Stack) -> None:
    stack.docker("volume", "create", "once")
    stack.docker("volume", "rm", "once")
    before = metrics(stack)["dockyard_http_requests_total"]["201", "POST", "/volumes/create"]
    stack.dockyard("restart", "apiserver")
    until(lambda: metrics(stack)["dockyard_http_requests_in_progress"][()] == 1)  # this one: no worker left its own
    assert metrics(stack)["dockyard_http_requests_total"]["201", "POST", "/volumes/create"] == before


def test_nothing_else_is_there_and_metrics_are_nowhere_else(stack: Stack) -> None:
    refused = inside(stack, "sh", "-c", f"busybox wget -qO- http://{ADDRESS}/containers/json 2>&1; true")
    assert "403" in refused
    assert request(stack, "GET", "/metrics") == (404, {"message": "page not found"})


def test_the_access_log_has_the_job(stack: Stack) -> None:
    stack.docker("volume", "create", "logged")
    stack.docker("volume", "rm", "logged")
    line = until(lambda: re.search(r"request method=POST path='/v[\d.]+/volumes/create' .*", stack.log()))[0]
    assert re.search(r"status=201 took_ms=\d+ peer='uid=0 pid=\d+' job=[0-9a-f]{32}", line)
    job = line.rpartition("job=")[2]
    assert (
        job in stack.dockyard("jobs", "--name", "volume_create").stdout
        or job[:12] in stack.dockyard("trace", job).stdout
    )


RECEIVER = """
import gzip, http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with open(sys.argv[1], "ab") as file:
            file.write(len(body).to_bytes(4, "big") + body)
        self.send_response(200); self.end_headers()
    def log_message(self, *words): pass
http.server.HTTPServer(("127.0.0.1", 4318), Handler).serve_forever()
"""


def spans(path: Path) -> list[tuple[str, str, str, str]]:
    """Return (name, trace id, span id, parent's) of what has come."""
    data, found = path.read_bytes() if path.exists() else b"", []
    while len(data) >= 4:
        size = int.from_bytes(data[:4], "big")
        body, data = data[4 : 4 + size], data[4 + size :]
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                found += [
                    (one.name, one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex()) for one in scope.spans
                ]
    return found


def test_jobs_are_sent_as_spans(stack: Stack, tmp_path: Path) -> None:
    assert stack.process is not None
    came = tmp_path / "spans"
    words = ["nsenter", f"--net=/proc/{stack.process.pid}/ns/net", "python3", "-c", RECEIVER, str(came)]
    receiver = subprocess.Popen(words)
    try:
        stack.docker("run", "--rm", "--name", "spanned", "busybox", "true")
        found = until(lambda: (seen := spans(came)) and any(name == "start" for name, *_ in seen) and seen, 30)
        start = next(span for span in found if span[0] == "start")
        children = [span for span in found if span[3] == start[2]]
        assert children
        assert {span[1] for span in children} == {start[1]}
        assert start[3] == ""
        assert "start" in stack.dockyard("trace", start[1]).stdout  # a trace's id is its first job's
    finally:
        receiver.terminate()
        receiver.wait()
