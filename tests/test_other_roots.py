"""A run's data in another place: what of the run counts there, and which of its images trained the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmsearch.tasks.parts.known import configure


@pytest.mark.parametrize("task", ["evaluate checkpoint", "retrain genotype"])
def test_what_values_of_masks_mean_is_taken_for_other_folders(task: str, tmp_path: Path) -> None:
    run = "data: {name: dense, root: a, ignore_index: 7, reduce_zero_label: true, on_error: skip}\nmodel: {name: local_vim_nano}"
    (tmp_path / "config.yaml").write_text(run)
    (tmp_path / "genotype.json").write_text("[]")
    task, key = task.split()

    def taken(*words: str) -> tuple:
        data = configure(task, [f"{key}={tmp_path}", "data.root=b", *words])[0].data
        return data.ignore_index, data.reduce_zero_label, data.on_error

    assert taken() == (7, True, "raise"), "what was set for broken files of the run is not"
    assert taken("data=dense", "data.ignore_index=-1") == (-1, True, "raise"), "the command line wins"
