"""Progress: a bar where a person watches, lines of the log elsewhere."""

import io
import logging
import sys

import torch.distributed as dist
from torch.utils.data import DataLoader

from fastreid_fancl import progress
from fastreid_fancl.progress import Progress, ShownLoader, in_terminal


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def watched(monkeypatch) -> Terminal:
    """A terminal as standard error; a fixture would come before pytest puts its own there."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_a_terminal_gets_a_bar_and_the_log_nothing(caplog, monkeypatch):
    terminal = watched(monkeypatch)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_REPORTS", -1)
    with caplog.at_level(logging.INFO), Progress("Features", 8, "batches") as shown:
        shown.advance(3)
        shown.bar.refresh()
        assert "Features" in terminal.getvalue() and "3/8" in terminal.getvalue()
    assert not caplog.text
    assert terminal.getvalue().endswith("\r"), "the bar is gone at the end"


def test_without_a_terminal_there_are_lines_less_and_less_often(caplog, capsys, monkeypatch):
    seconds = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds)
    with caplog.at_level(logging.INFO), Progress("Features", 100, "batches") as shown:
        for seconds in range(1, 101):  # noqa: B007 (the clock reads it)
            shown.advance()
    # The first after more than 10 s; then after more than 10 s or half of the time that had passed at the one before.
    at = [int(record.args[1]) for record in caplog.records]
    assert at == [11, 22, 34, 52, 79]
    assert caplog.messages[0] == "Features: 11 of 100 batches, 89 s left"
    assert capsys.readouterr().err == ""


def test_of_several_processes_the_first_one_shows_bars(monkeypatch):
    watched(monkeypatch)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    assert not in_terminal()
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    assert in_terminal()


def test_a_shown_loader_is_the_loader(caplog, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_REPORTS", -1)
    loader = ShownLoader(DataLoader(list(range(6)), batch_size=2), "Testing on X")
    with caplog.at_level(logging.INFO):
        assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]
    assert (len(loader), len(loader.dataset)) == (3, 6)
    assert caplog.messages[0].startswith("Testing on X: 1 of 3 batches")
