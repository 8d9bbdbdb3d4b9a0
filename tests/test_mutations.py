"""Damaged files of every format: none raises, crashes, takes 10 s or fills the memory.

A few of each; the slow tests try thousands.
"""

import importlib.util
import json
from pathlib import Path

import pytest
from data.costs import processes
from mutations import FORMATS, run_each

FEW, MANY = 8, 150  # of each format
CODECS = importlib.util.find_spec("gdcm") is not None
NEED_CODECS = {"dicom_jpeg", "dicom_jpeg_ls", "dicom_jpeg_2000"}
NAMES = [name for name in FORMATS if CODECS or name not in NEED_CODECS]
SIGALRM = -14


def faults_of(folder: Path, names: list[str], count: int) -> list[list]:
    """What happened to so many damaged files of each format: its name, the number of the file, what was wrong."""
    context, faults, left, first = processes(), [], names, 0
    while left:
        worker = context.Process(target=run_each, args=(left, first, count, folder))
        worker.start()
        worker.join()
        if worker.exitcode == 0:
            break
        name, number = json.loads((folder / "at").read_text())
        faults.append([name, number, "more than 10 s" if worker.exitcode == SIGALRM else f"exit {worker.exitcode}"])
        if number < 0:  # not even the whole file
            break
        left, first = left[left.index(name) :], number + 1
    if (folder / "faults").exists():
        faults += [json.loads(line) for line in (folder / "faults").read_text().splitlines()]
    return faults


def test_no_damaged_file_ends_a_run(tmp_path):
    faults = faults_of(tmp_path, NAMES, FEW)
    assert not faults, f"format, number and what happened; mutations.write makes each again: {faults}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_none_of_a_thousand_damaged_files_ends_a_run(tmp_path, name):
    faults = faults_of(tmp_path, [name], MANY)
    assert not faults, f"format, number and what happened; mutations.write makes each again: {faults}"


def test_a_fault_is_found_and_the_rest_is_tried(tmp_path):
    """The test itself: a format that ends the process, one that raises, and one that is well."""
    faults = faults_of(tmp_path, ["ends", "raises", "well"], 1)
    assert faults == [["ends", 0, "exit 3"], ["raises", 0, "RuntimeError: damaged"]]
