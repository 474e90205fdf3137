"""Every module has its test file at the mirrored path, and no test file outlives its module."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PARTS = ("sallyport", "gateway", "sandboxd", "worker", "control_client", "control_plane", "sallyport_cli")

# Modules without a test file of their own, each with the reason.
WITHOUT_A_TEST: dict[str, str] = {}
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


def test_every_module_has_its_test_file() -> None:
    assert untested(ROOT) == sorted(WITHOUT_A_TEST)


def test_every_test_file_has_its_module() -> None:
    assert orphans(ROOT) == sorted(WITHOUT_A_MODULE)


@pytest.mark.parametrize(
    ("files", "missing", "left_over"),
    [
        (["gateway/core/a.py", "tests/gateway/core/test_a.py", "gateway/__init__.py"], [], []),
        (["gateway/core/a.py", "tests/gateway/test_a.py"], ["gateway/core/a.py"], ["tests/gateway/test_a.py"]),
        (["gateway/core/a.py"], ["gateway/core/a.py"], []),
    ],
)
def test_planted_tree(tmp_path: pathlib.Path, files: list[str], missing: list[str], left_over: list[str]) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert untested(tmp_path) == missing
    assert orphans(tmp_path) == left_over
