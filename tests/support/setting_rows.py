"""Rows of docs/settings.md: as they should be, and as they are."""

from pathlib import Path

from sallyport.settings import NamedSetting, Shape

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/settings.md"

type Row = tuple[str, ...]


def row(named: NamedSetting) -> Row:
    """Return the cells that one setting should have."""
    setting = named.setting
    empty = {Shape.ONE: "", Shape.LIST: "`[]`", Shape.MAP: "`{}`"}[setting.shape]
    default = f"`{setting.default}`" if setting.default else empty
    return f"`{named.name}`", f"`{named.variable}`", default, setting.kind.bounds, setting.meaning, setting.reason


def documented(part: str) -> list[Row]:
    """Return the rows under `# Settings of <part>`, in their order."""
    _, found, text = DOCUMENT.read_text(encoding="utf-8").partition(f"# Settings of {part}\n")
    assert found, f"{DOCUMENT.name} has no chapter for {part}"
    lines = text.partition("\n# ")[0].splitlines()
    return [tuple(map(str.strip, line.strip("|").split(" | "))) for line in lines if line.startswith("| `")]
