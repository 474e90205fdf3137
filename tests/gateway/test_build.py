"""What a gateway says of itself."""

from importlib import metadata

import pytest

from gateway.build import codec_kind, version
from sallyport.wire.http1 import codec


def test_a_process_knows_which_of_the_two_builds_it_runs() -> None:
    assert codec_kind() == ("pure" if codec.__file__.endswith(".py") else "compiled")


def test_a_tree_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: f"{name} 7")
    assert version() == "sallyport 7"

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert version() == "unknown"
