"""Configuration templates."""

from pathlib import Path

import pytest

from benchmarks.subject import write_config
from tests.support.bench_site import site_in


def test_values_are_written_and_foreign_dollars_kept(tmp_path: Path) -> None:
    template = tmp_path / "template" / "x.conf"
    template.parent.mkdir()
    template.write_text('listen @{port}; log $host %{x} "@@type"')
    written = write_config(site_in(tmp_path), template, port=8080)
    assert written == tmp_path / "x.conf"
    assert written.read_text() == 'listen 8080; log $host %{x} "@type"'


def test_a_name_without_a_value_is_an_error(tmp_path: Path) -> None:
    template = tmp_path / "x.conf"
    template.write_text("@{prot}")
    with pytest.raises(KeyError):
        write_config(site_in(tmp_path), template, port=8080)
