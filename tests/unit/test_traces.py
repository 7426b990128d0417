"""Traces, where they can't be made."""

import sys

import pytest

from nearvote.observe.traces import Tracing
from nearvote.startup_errors import InvalidSetting


def test_without_its_packages_the_setting_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for traces and has not installed what they take is told what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(InvalidSetting, match=r"nearvote\[traces\]"):
        Tracing("http://127.0.0.1:1")
