"""Thousands of damaged files, of every format: none raises, crashes, takes 10 s or fills the memory.

MEDLAT_MUTATIONS=full: ten times as many.
"""

import importlib.util
import json
import os

import pytest
from data.costs import processes
from mutations import FORMATS, run

FULL = os.environ.get("MEDLAT_MUTATIONS") == "full"
COUNT = 600 if FULL else 60  # of each format
CODECS = importlib.util.find_spec("gdcm") is not None
NEED_CODECS = {"dicom_jpeg", "dicom_jpeg_ls", "dicom_jpeg_2000"}
SIGALRM = -14


@pytest.mark.parametrize("name", [name for name in FORMATS if CODECS or name not in NEED_CODECS])
def test_no_damaged_file_ends_a_run(tmp_path, name):
    context, faults, start = processes(), [], 0
    while start < COUNT:
        worker = context.Process(target=run, args=(name, range(start, COUNT), tmp_path))
        worker.start()
        worker.join()
        if worker.exitcode == 0:
            break
        number = int((tmp_path / "at").read_text())
        faults.append([name, number, "more than 10 s" if worker.exitcode == SIGALRM else f"exit {worker.exitcode}"])
        start = number + 1
    if (tmp_path / "faults").exists():
        faults += [json.loads(line) for line in (tmp_path / "faults").read_text().splitlines()]
    assert not faults, f"format, number and what happened; mutations.write makes each again: {faults}"
