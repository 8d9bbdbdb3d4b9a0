"""Where the program's own configuration files are."""

from pathlib import Path


def config_dir() -> str:
    """The absolute path of `conf`: `medlat/conf` in an installed wheel, `conf` beside `medlat` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    found = next((folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir()), None)
    assert found is not None, f"neither {package / 'conf'} nor {package.parent / 'conf'} exists"
    return str(found)
