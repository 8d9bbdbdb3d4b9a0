"""Nothing that identifies a patient leaves the source: planted in every DICOM tag, searched in every output byte."""

import gzip
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pydicom
import pytest
from data.dicom_files import plant_identity

from medlat.phantoms.ct.export import write_dicom_series
from medlat.phantoms.ct.source import CTPhantom

MARKER = "Zq7XkPlanted9f3b1c"


def plant(root: Path) -> list[bytes]:
    """DICOM files of four patients, in folders and with names that identify, and with a marker in every tag; one is
    damaged.
    """
    paths = write_dicom_series(root / "plain", CTPhantom(4, 3, 64))
    secrets = {MARKER.encode()}
    for number, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        secrets.update(plant_identity(dataset, MARKER))
        folder = root / f"{MARKER}_patient"
        folder.mkdir(exist_ok=True)
        dataset.save_as(folder / f"{MARKER}_{number}.dcm", enforce_file_format=True)
        path.unlink()
    (root / f"{MARKER}_patient" / f"{MARKER}_broken.dcm").write_bytes((folder / f"{MARKER}_0.dcm").read_bytes()[:2000])
    return sorted(secrets)


def contents(folder: Path):
    """Every file with its bytes, what archives hold included."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        yield str(path.relative_to(folder)), str(path.relative_to(folder)).encode() + b"\0" + data
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield f"{path}:{name}", archive.read(name)
        elif data[:2] == b"\x1f\x8b":
            yield f"{path}:gz", gzip.decompress(data)


LEFT = {"wandb": ".wandb", "tensorboard": "tfevents", "mlflow": "mlflow.db"}  # logger -> of a file's name


@pytest.mark.slow
@pytest.mark.parametrize("logger", LEFT)
def test_no_identity_in_any_output_byte(tmp_path, logger):
    pytest.importorskip(logger, reason=f"the extra {logger} is not installed")
    root, work = tmp_path / "data", tmp_path / "work"
    work.mkdir()
    secrets = plant(root)
    assert len(secrets) > 3
    command = [
        sys.executable,
        "-m",
        "medlat.run",
        "+experiment=ct_vae_sefa",
        "scale=tiny",
        "data=ct_dicom",
        f"data.root={root}",
    ]
    command += [
        "generator.training.images=64",
        "evaluation.base_codes=4",
        "evaluation.samples=8",
        "data.max_damaged=0.5",
        f"logger={logger}",
    ]
    done = subprocess.run(
        command, cwd=work, capture_output=True, text=True, timeout=300, env={**os.environ, "HOME": str(work)}
    )
    assert done.returncode == 0, done.stderr
    assert f"{MARKER}_broken.dcm" in done.stderr, "damaged files are named on the terminal"
    assert len(re.findall(MARKER, done.stdout + done.stderr)) <= 2, "and nowhere else"
    files = dict(contents(work))
    assert any(LEFT[logger] in name for name in files), "what is mirrored is among what is searched"
    assert any("report/index.html" in name for name in files)
    found = [(name, secret) for name, data in files.items() for secret in secrets if secret in data]
    assert found == []


def test_the_search_would_find_them(tmp_path):
    secrets = plant(tmp_path / "data")
    read = b"".join(data for _, data in contents(tmp_path / "data"))
    missing = [secret for secret in secrets if secret not in read]
    assert missing == []
