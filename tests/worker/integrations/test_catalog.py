"""The catalog has what the contracts name, and nothing in it holds a secret."""

from worker.integrations.catalog import CATALOG
from worker.integrations.manifest import EnvironmentReference


def test_what_it_ships() -> None:
    connectors = {"postgresql-connector", "github-connector", "salesforce-connector"}
    assert set(CATALOG) == connectors | {"filesystem", "git", "time", "everything"}


def test_each_is_described_and_found_by_its_id() -> None:
    assert all(manifest.id == name and manifest.description for name, manifest in CATALOG.items())


def test_secrets_are_variables_of_the_worker() -> None:
    references = [reference for manifest in CATALOG.values() for reference in manifest.secrets.values()]
    assert [type(reference) for reference in references] == [EnvironmentReference] * 2
