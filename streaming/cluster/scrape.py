"""The metrics of several servers as one page: each sample with its server's name as a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

LABEL = "replica"


def labelled(pages: Mapping[str, str]) -> bytes:
    """One page in Prometheus' text format, of the page of each server by its name.

    Samples of one metric stand together, as the format asks for.

    Raises:
        ValueError: a page is in another format.
    """
    families: dict[str, Metric] = {}
    for server, page in sorted(pages.items()):
        for family in text_string_to_metric_families(page):
            mine = {LABEL: server}
            samples = [one._replace(labels={**one.labels, **mine}) for one in family.samples]
            family.samples = samples
            known = families.setdefault(family.name, family)
            if known is not family:
                known.samples += samples
    return generate_latest(_Families(families.values()))


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
