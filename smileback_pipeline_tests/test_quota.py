"""The request quota: shared by all processes of a customer, whatever becomes of them, and never exceeded."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smileback_pipeline.api import quota
from smileback_pipeline.api.client import SmileBackClient
from smileback_pipeline.endpoints import REVIEWS
from smileback_pipeline.sandbox import World, running_sandbox
from smileback_pipeline.sandbox.server import QUOTA_WINDOW_SECONDS
from smileback_pipeline_tests.mirror import Customer

# Time runs faster for the sandbox, and the window of the processes is as much shorter; what they keep clear of the
# window's end stays the half a second that it is.
SPEED = 20
MARGIN_MILLISECONDS = 500
_READ = """
import sys
from smileback_pipeline.api import quota
from smileback_pipeline.api.client import SmileBackClient
from smileback_pipeline.endpoints import REVIEWS
from smileback_pipeline.settings import validated_settings

quota._WINDOW_MILLISECONDS = int(sys.argv[1])
with SmileBackClient(validated_settings(token_path=sys.argv[2])) as client:
    for _ in range(int(sys.argv[3])):
        client.fetch_page(REVIEWS, since=None, offset=0)
    print(client.requests)
"""


def test_the_window_is_longer_than_smilebacks_minute() -> None:
    assert quota._WINDOW_MILLISECONDS == QUOTA_WINDOW_SECONDS * 1000 + MARGIN_MILLISECONDS


def test_three_processes_of_a_customer_share_one_quota_and_are_never_throttled(tmp_path: Path) -> None:
    """Two and a half windows full of requests, all wanted at once."""
    allowed, processes, each = 12, 3, 10
    window = int(QUOTA_WINDOW_SECONDS * 1000 / SPEED) + MARGIN_MILLISECONDS
    with running_sandbox(World.empty(), requests_per_minute=allowed, clock=lambda: time.monotonic() * SPEED) as sandbox:
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", _READ, str(window), str(tmp_path / "tokens.json"), str(each)],
                env={**os.environ, **sandbox.environment(), "XDG_STATE_HOME": str(tmp_path)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(processes)
        ]
        assert [reader.communicate(timeout=120)[0] for reader in readers] == [f"{each}\n"] * processes
        assert [request.status for request in sandbox.requests.to("reviews")] == [200] * processes * each
        assert sandbox.requests.most_data_requests_within(QUOTA_WINDOW_SECONDS) == allowed
        assert len(sandbox.requests.to("token")) == 1


@pytest.mark.parametrize("ends_well", [True, False])
def test_what_a_process_has_asked_counts_when_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_well: bool
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with running_sandbox(World.empty(), requests_per_minute=3) as sandbox:
        settings = Customer(sandbox, tmp_path).settings
        end = "" if ends_well else "\nimport os; os.kill(os.getpid(), 9)"
        reading = _READ.replace("    print(client.requests)", f"    print(client.requests){end}")
        subprocess.run(
            [sys.executable, "-c", reading, str(quota._WINDOW_MILLISECONDS), str(settings.token_path), "3"],
            env={**os.environ, **sandbox.environment()},
            check=ends_well,
        )

        def refuse(seconds: float) -> None:
            raise InterruptedError(seconds)

        with SmileBackClient(settings, on_wait=refuse) as client, pytest.raises(InterruptedError) as told:
            client.fetch_page(REVIEWS, since=None, offset=0)
        assert 40 < told.value.args[0] <= 60.5
        assert len(sandbox.requests.to("reviews")) == 3
