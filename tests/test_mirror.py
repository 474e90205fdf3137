"""Every module has its test file at the mirrored path, and no test file outlives its module."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARTS = ("sallyport", "gateway", "sandboxd", "worker", "control_client", "control_plane", "sallyport_cli")

# Folders of tests that mirror no part, each with what is in it.
KINDS = {
    "api_fuzz": "a control plane asked by its OpenAPI document (`make api-fuzz`)",
    "benchmarks": "the benchmark programs, which are not packaged",
    "contract": "one contract for every implementation of it",
    "demo": "the demonstration, which is not packaged",
    "flow": "a whole gateway from outside",
    "fuzz": "fuzz targets and that they run",
    "guards": "guards that are broken one by one, and that each is missed",
    "sim": "seeded schedules in virtual time",
    "support": "what tests share; no tests",
}

# Modules without a test file of their own, each with the reason.
WITHOUT_A_TEST: dict[str, str] = {
    **{
        f"control_plane/api/documents/{name}.py": "shapes that do nothing; api_fuzz holds answers to them"
        for name in (
            "feed",
            "gateways",
            "integrations",
            "problems",
            "sandboxes",
            "service",
            "webhooks",
            "workers",
        )
    },
    "control_plane/store/migrations/env.py": "run by its path, in every test of control_plane/store/migrate.py",
    "control_plane/store/migrations/versions/0001_first_tables.py": "likewise, and compared with the models there",
    "control_plane/store/migrations/versions/0002_integrations.py": "likewise",
    "control_plane/store/migrations/versions/0003_workers.py": "likewise",
    "control_plane/store/migrations/versions/0004_client_feed.py": "likewise",
    "control_plane/store/migrations/versions/0005_push.py": "likewise",
    "control_plane/store/migrations/versions/0006_plan_servers.py": "likewise, with plans that were there before",
    "control_plane/store/migrations/versions/0007_revoked_of_organizations.py": "likewise, with revocations of before",
    "worker/integrations/parts.py": "fields alone, which every test of an integration fills",
}
# Test files of a part that mirror no module, each with the reason.
WITHOUT_A_MODULE: dict[str, str] = {}


def modules(root: pathlib.Path) -> list[pathlib.Path]:
    return [
        path.relative_to(root)
        for part in PARTS
        for path in sorted((root / part).rglob("*.py"))
        if path.name != "__init__.py"
    ]


def mirrored(module: pathlib.Path) -> pathlib.Path:
    return pathlib.Path("tests") / module.parent / f"test_{module.name}"


def untested(root: pathlib.Path) -> list[str]:
    return [str(module) for module in modules(root) if not (root / mirrored(module)).exists()]


def orphans(root: pathlib.Path) -> list[str]:
    expected = {mirrored(module) for module in modules(root)}
    tests = (path.relative_to(root) for part in PARTS for path in sorted((root / "tests" / part).rglob("test_*.py")))
    return [str(path) for path in tests if path not in expected]


def strangers(root: pathlib.Path) -> list[str]:
    """Folders of tests that are neither a part's nor a kind of their own: nobody looks whether they mirror anything."""
    folders = sorted(path.name for path in (root / "tests").iterdir() if path.is_dir() and path.name != "__pycache__")
    return [name for name in folders if name not in (*PARTS, *KINDS)]


def test_every_module_has_its_test_file() -> None:
    assert sorted(untested(ROOT)) == sorted(WITHOUT_A_TEST)


def test_every_test_file_has_its_module() -> None:
    assert orphans(ROOT) == sorted(WITHOUT_A_MODULE)


def test_every_folder_of_tests_is_a_part_s_or_a_kind() -> None:
    assert strangers(ROOT) == []
    assert not set(KINDS) & set(PARTS)


def test_planted_folder(tmp_path: pathlib.Path) -> None:
    for name in ("gateway", "flow", "contract", "fuzz", "demo", "__pycache__", "unit"):
        (tmp_path / "tests" / name).mkdir(parents=True)
    assert strangers(tmp_path) == ["unit"]


@pytest.mark.parametrize(
    ("files", "missing", "left_over"),
    [
        (["gateway/core/a.py", "tests/gateway/core/test_a.py", "gateway/__init__.py"], [], []),
        (["gateway/core/a.py", "tests/gateway/test_a.py"], ["gateway/core/a.py"], ["tests/gateway/test_a.py"]),
        (["gateway/core/a.py"], ["gateway/core/a.py"], []),
        (["gateway/a.py", "tests/contract/test_a.py", "tests/flow/test_b.py"], ["gateway/a.py"], []),
    ],
)
def test_planted_tree(tmp_path: pathlib.Path, files: list[str], missing: list[str], left_over: list[str]) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert untested(tmp_path) == missing
    assert orphans(tmp_path) == left_over
