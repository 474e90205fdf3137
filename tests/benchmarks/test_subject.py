"""Configuration templates."""

from pathlib import Path

import pytest

from benchmarks.subject import Site, write_config


def _site(directory: Path) -> Site:
    return Site(directory=directory, host="api.bench.test", origin_port=1, credential="k")


def test_values_are_written_and_foreign_dollars_kept(tmp_path: Path) -> None:
    template = tmp_path / "template" / "x.conf"
    template.parent.mkdir()
    template.write_text('listen @{port}; log $host %{x} "@@type"')
    written = write_config(_site(tmp_path), template, port=8080)
    assert written == tmp_path / "x.conf"
    assert written.read_text() == 'listen 8080; log $host %{x} "@type"'


def test_a_name_without_a_value_is_an_error(tmp_path: Path) -> None:
    template = tmp_path / "x.conf"
    template.write_text("@{prot}")
    with pytest.raises(KeyError):
        write_config(_site(tmp_path), template, port=8080)
