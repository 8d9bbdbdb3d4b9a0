"""The wheel carries the configuration, and runs from a folder that is no checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    script = f"import hatchling.build as b, os; os.chdir({str(ROOT)!r}); print(b.build_wheel({str(folder)!r}))"
    name = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()[-1]
    with zipfile.ZipFile(folder / name) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_configuration_and_templates_are_in_it(unpacked):
    for name in (
        "conf/config.yaml",
        "conf/experiment/ct_vae_sefa.yaml",
        "report/comparison.html.j2",
        "report/macros.html.j2",
        "report/page.html.j2",
        "report/page.js",
        *(f"explore/{name}.html.j2" for name in ("frame", "explore", "pair", "sweep")),
        "explore/explore.css",
        *(f"explore/{name}.js" for name in ("explore", "zoom", "looking", "pair", "sweep")),
        "run.py",
        "py.typed",
    ):
        assert (unpacked / "medlat" / name).is_file(), name
    assert not (unpacked / "tests").exists()
    entry_points = next(unpacked.glob("*.dist-info/entry_points.txt")).read_text()
    assert "medlat = medlat.__main__:main" in entry_points


def test_it_plans_a_run_outside_the_checkout(unpacked, tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(unpacked)!r}); import medlat.run; sys.exit(medlat.run.run(sys.argv[1:]))"
    )
    where = f"import sys; sys.path.insert(0, {str(unpacked)!r}); import medlat; print(medlat.__file__)"
    command = [sys.executable, "-P", "-c", script, "+experiment=ct_vae_sefa", "scale=tiny", "dry_run=true"]
    assert str(unpacked) in subprocess.run([sys.executable, "-P", "-c", where], capture_output=True, text=True).stdout
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "96 of 32²" in done.stdout
