"""A step that works for long without a word says that it lives; one that speaks is left alone."""

import logging
import threading
import time

import pytest

from medlat.core.progress import at_work, track

SILENCE_S = 0.2
log = logging.getLogger("medlat.tests")


def test_what_works_in_silence_is_said(caplog):
    with caplog.at_level("INFO"), at_work(SILENCE_S) as begin:
        begin("audit")
        time.sleep(3.5 * SILENCE_S)
    assert 2 <= len(caplog.messages) <= 4
    assert all(line.startswith("audit: at work for ") for line in caplog.messages)


def test_what_speaks_is_left_alone(caplog):
    with caplog.at_level("INFO"), at_work(SILENCE_S) as begin:
        begin("audit")
        for _ in range(8):
            time.sleep(SILENCE_S / 4)
            log.info("so far")
    assert set(caplog.messages) == {"so far"}


def test_several_short_silences_are_one_long_silence(caplog):
    with caplog.at_level("INFO"), at_work(4 * SILENCE_S) as begin:
        for step in ("one", "two", "three"):
            begin(step)
            time.sleep(2 * SILENCE_S)
    assert [line.partition(":")[0] for line in caplog.messages] in (["two"], ["three"])


def test_nothing_stays_behind_even_after_an_error(caplog):
    before = threading.active_count(), list(logging.getLogger().handlers)
    with pytest.raises(ValueError, match="fault"), at_work(SILENCE_S):
        raise ValueError("fault")
    assert (threading.active_count(), list(logging.getLogger().handlers)) == before
    with caplog.at_level("INFO"):
        time.sleep(2 * SILENCE_S)
    assert caplog.messages == []


def test_a_line_now_and_then_says_how_far_it_has_come(caplog, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    with caplog.at_level("INFO"):
        assert list(track(range(3), "measuring", every_s=0.0)) == [0, 1, 2]
    assert [line.partition(" (")[0] for line in caplog.messages] == ["measuring: 1 of 3", "measuring: 2 of 3"]
