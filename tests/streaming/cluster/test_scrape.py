"""The metrics of several servers on one page."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streaming.cluster.scrape import labelled

PAGE = """\
# HELP livegloss_sessions Sessions alive
# TYPE livegloss_sessions gauge
livegloss_sessions {sessions}
# HELP livegloss_windows_total Windows by outcome
# TYPE livegloss_windows_total counter
livegloss_windows_total{{outcome="done"}} {done}
livegloss_windows_total{{outcome="an \\"odd\\"\\\\ name\\n"}} 1.0
# HELP livegloss_delay_seconds Delay
# TYPE livegloss_delay_seconds histogram
livegloss_delay_seconds_bucket{{le="0.1"}} 1.0
livegloss_delay_seconds_bucket{{le="+Inf"}} 2.0
livegloss_delay_seconds_count 2.0
livegloss_delay_seconds_sum 0.5
"""


def page(sessions: float, done: float) -> str:
    return PAGE.format(sessions=sessions, done=done)


def test_each_sample_names_its_server_and_keeps_its_type() -> None:
    text = labelled({"b": page(2, 20), "a": page(1, 10)}).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    kinds = {name: (family.type, family.documentation) for name, family in families.items()}
    assert kinds == {
        "livegloss_sessions": ("gauge", "Sessions alive"),
        "livegloss_windows": ("counter", "Windows by outcome"),
        "livegloss_delay_seconds": ("histogram", "Delay"),
    }
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["livegloss_sessions", ("replica", "a")] == 1
    assert samples["livegloss_sessions", ("replica", "b")] == 2
    done = ("outcome", "done")
    assert samples["livegloss_windows_total", done, ("replica", "a")] == 10
    assert samples["livegloss_windows_total", done, ("replica", "b")] == 20
    assert (
        "livegloss_windows_total",
        ("outcome", 'an "odd"\\ name\n'),
        ("replica", "a"),
    ) in samples
    assert samples["livegloss_delay_seconds_bucket", ("le", "+Inf"), ("replica", "b")] == 2
    assert len(samples) == 2 * 7, "none is lost, and none is there twice"


def test_samples_of_one_metric_stand_together() -> None:
    lines = labelled({"a": page(1, 10), "b": page(2, 20)}).decode().splitlines()
    names = [line.partition("{")[0] for line in lines if not line.startswith("#")]
    runs = [name for n, name in enumerate(names) if n == 0 or names[n - 1] != name]
    assert runs.count("livegloss_sessions") == runs.count("livegloss_windows_total") == 1
    for metric in ("livegloss_sessions", "livegloss_windows_total", "livegloss_delay_seconds"):
        assert sum(line.startswith(f"# TYPE {metric} ") for line in lines) == 1


def test_a_metric_that_one_server_alone_has_is_kept() -> None:
    text = labelled({"a": page(1, 10), "b": "# TYPE only gauge\nonly 3\n"}).decode()
    assert 'only{replica="b"} 3.0' in text and 'livegloss_sessions{replica="a"} 1.0' in text


def test_no_server_is_an_empty_page() -> None:
    assert labelled({}) == b""


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError):
        labelled({"a": "<html>"})
