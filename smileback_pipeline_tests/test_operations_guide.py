"""What docs/operations.md tells to type and quotes is what there is."""

import ast
import re
import sys
import types
from typing import Any

import dagster as dg
import pytest

from smileback_pipeline.settings import PROJECT_ROOT

GUIDE = (PROJECT_ROOT / "docs" / "operations.md").read_text()


def test_every_message_that_the_guide_quotes_is_one_that_the_code_says() -> None:
    said = [
        " ".join(node.value.split())
        for file in (PROJECT_ROOT / "smileback_pipeline").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    quoted = re.findall(r'^\| "([^"]+)" \|', GUIDE, re.MULTILINE)
    assert len(quoted) > 20
    unknown = [
        message
        for message in quoted
        for part in map(str.strip, message.split("…"))
        if not any(part in words for words in said)
    ]
    assert not unknown


def test_the_alarm_of_the_guide_says_what_the_command_line_would_say(monkeypatch: pytest.MonkeyPatch) -> None:
    # What sends to Slack is a package of its own, which is not installed here.
    slack = types.ModuleType("dagster_slack")
    slack.make_slack_on_run_failure_sensor = lambda **given: dg.make_email_on_run_failure_sensor(  # type: ignore[attr-defined]
        "a", "b", ["c"], name=given["name"]
    )
    monkeypatch.setitem(sys.modules, "dagster_slack", slack)
    for variable in ("SMTP_HOST", "SMTP_USER", "SMTP_PASSWORD", "SLACK_TOKEN"):
        monkeypatch.setenv(f"ALERT_{variable}", "somewhere")
    [code] = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    alerts: dict[str, Any] = {}
    exec(code, alerts)
    assert {sensor.name for sensor in alerts["defs"].sensors} == {"email_on_failure", "slack_on_failure"}

    @dg.op
    def refused() -> None:
        raise dg.Failure("Logging in to SmileBack: refused.")

    @dg.op
    def broken() -> None:
        raise ValueError("never thought of")

    @dg.job
    def failing() -> None:
        refused()
        broken()

    with dg.DagsterInstance.ephemeral() as instance:
        result = failing.execute_in_process(instance=instance, raise_on_error=False)
        [failure] = [event for event in result.all_events if event.event_type == dg.DagsterEventType.RUN_FAILURE]
        context = dg.build_run_status_sensor_context(
            "email_on_failure", failure, instance, result.dagster_run
        ).for_run_failure()
        lines = alerts["reason"](context).splitlines()
    assert "Logging in to SmileBack: refused." in lines
    assert any("broken" in line for line in lines)
