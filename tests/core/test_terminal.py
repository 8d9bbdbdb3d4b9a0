"""What is printed: nothing that steers a terminal, and in a file nothing that may name patients."""

import io
import logging
import os
import sys

import pytest

from medlat.core import machine
from medlat.core.errors import UserError
from medlat.core.terminal import UNHEARD, Lines, complain, heard, printable
from medlat.study.record import note_failure

ABOUT = "about patient_smith.dcm"
NOTED = {"error": "UserError", "where": "in split", "reason": "not kept"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\n\ttext, µm² · “quoted” 日本", "plain\n\ttext, µm² · “quoted” 日本"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("back\rover\x00\x7f\x9b", "back\\rover\\x00\\x7f\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),  # turns the direction of what follows
        ("name\udcff", "name\\udcff"),  # a file's name that is no UTF-8
    ],
)
def test_control_characters_are_written_out(text, expected):
    assert printable(text) == expected
    record = logging.LogRecord("medlat", logging.INFO, "", 0, "%s", (text,), None)
    assert Lines("%(message)s").format(record) == expected


def failed(kind, noted=NOTED):
    try:
        raise kind(ABOUT)
    except Exception as error:
        if noted:
            error.noted = noted
        return error


def test_on_a_terminal_all_is_said(capsys):
    complain(failed(UserError))
    assert capsys.readouterr().err == f"medlat: {ABOUT}\n"
    complain(failed(ValueError))
    assert f"ValueError: {ABOUT}" in capsys.readouterr().err
    complain(failed(UserError), debug=True)
    assert "Traceback" in capsys.readouterr().err


def test_what_may_name_patients_is_left_out_also_where_nothing_can_be_noted(capsys, monkeypatch, tmp_path):
    """On a full disk, say."""
    monkeypatch.setattr(machine, "_is_file", lambda stream: True)
    error = failed(UserError, noted=None)
    note_failure(tmp_path / "gone", error, [], "split")
    complain(error)
    assert capsys.readouterr().err.startswith("medlat: UserError in split: not kept")


def test_in_a_file_what_may_name_patients_is_left_out(capsys, monkeypatch):
    monkeypatch.setattr(machine, "_is_file", lambda stream: True)
    for kind, debug in ((UserError, False), (UserError, True), (ValueError, False)):
        complain(failed(kind), debug)
        said = capsys.readouterr().err
        assert "smith" not in said
        assert "medlat: UserError in split: not kept" in said
        assert ("in failed" in said) == (debug or kind is ValueError), "the places in the code stay"
    complain(failed(UserError, noted=None))
    assert "smith" in capsys.readouterr().err, "before a run has begun: of its configuration"


@pytest.mark.parametrize("lines", [1, 100_000])
def test_who_stops_reading_gets_no_traceback(monkeypatch, lines):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", pipe)
        patched.setattr(sys, "stderr", said := io.StringIO())
        assert heard(lambda: print("plan\n" * lines) or 0) == UNHEARD
        print("nobody reads this, and nothing happens", flush=True)
    assert said.getvalue() == ""


def test_a_broken_pipe_of_another_kind_is_our_fault(capsys):
    def broken():
        raise BrokenPipeError("a worker has died")

    assert heard(broken) == 1
    assert "a worker has died" in capsys.readouterr().err
    assert heard(lambda: 7) == 7
