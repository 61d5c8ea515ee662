"""Errors name their log, and are the same without it."""

from pathlib import Path

import pytest

from results import Store, StoreError
from results.storage.failure_logs import log_of, with_log, without_log


@pytest.mark.parametrize("error", ["ValueError: no; log: of mine", "two\nlines", ""])
def test_the_log_can_be_added_read_and_removed(error):
    named = with_log(error, "cell-0123")
    assert log_of(named) == "logs/cell-0123.txt"
    assert without_log(named) == without_log(error) == error
    assert log_of(error) is None


def test_a_link_in_place_of_the_logs_is_refused(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "logs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        Store(tmp_path / "runs").create()
