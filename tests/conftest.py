"""Fixtures of all tests: an image cache that is not the user's, and an S3 server."""

import os
import signal
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from object_store import CREDENTIALS, ObjectStore, serving

from prune_core.images.cache import CACHE_VARIABLE
from prune_core.plugins import _LOADED
from sweep.stages import costs


@pytest.fixture(scope="session", autouse=True)
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Images are decoded once per run of the suite, for subprocesses too."""
    folder = tmp_path_factory.mktemp("image-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """One thread, as in a trial; what the command sets and a plug-in registers is set back."""
    threads, on_terminate = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    formatted, loaded = warnings.formatwarning, set(_LOADED)
    torch.set_num_threads(1)
    yield
    for plugin in [one for one in _LOADED.values() if one.fingerprint not in loaded]:
        plugin.unload()
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, on_terminate)
    warnings.formatwarning = formatted


@pytest.fixture(scope="session", autouse=True)
def _short_latencies() -> Iterator[None]:
    """Latencies are measured for an instant: here it matters that they are, not how exactly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "measure", partial(costs.measure, seconds=0.01))
        yield


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """An S3 server in this process, with its credentials in the environment."""
    pytest.importorskip("moto", reason="moto is not installed; it is the S3 server of these tests")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setitem(os.environ, name, value)
        with serving() as store:
            yield store


# Tests that start a Ray on simulated nodes, which have a network and processes of their own.
APART = ("tests/cluster/test_machines.py",)

# Tests that start a Ray on this machine, and those that share fixtures with them.
RAY = (
    "tests/faults/",
    "tests/cluster/test_submit.py",
    "tests/sweep/test_interrupt.py",
    "tests/sweep/test_live.py",
    "tests/sweep/test_own_network.py::test_ray_gives",
    "tests/sweep/test_plugins.py::test_ray_gives",
    "tests/sweep/test_preflight.py::test_nodes_of_a_cluster",
    "tests/sweep/test_run.py::test_ray_gives",
)

# Other tests that take more than about two seconds, each or for their fixtures.
SLOW = (
    "tests/benchmarks/test_gpu.py",
    "tests/prune_core/test_budgets.py::test_global_is_the_nearest_state_of_one_order",
    "tests/prune_core/test_budgets.py::test_global_misses_by_at_most_half_of_the_largest_channel",
    "tests/prune_core/test_budgets.py::test_local_fits_the_budget_and_nothing_more_would",
    "tests/prune_core/test_every_network.py",
    "tests/prune_core/test_families.py::test_a_padded_shortcut_becomes_onnx",
    "tests/prune_core/test_families.py::test_a_resnet_can_be_exported",
    "tests/prune_core/test_groups.py::test_removed_channels_equal_masked_channels",
    "tests/prune_core/test_groups.py::test_sizes_are_those_of_the_module",
    "tests/prune_core/test_groups.py::test_torch_pruning_finds",
    "tests/prune_core/test_images_memory.py",
    "tests/prune_core/test_one_shot.py::test_every_network_can_be_pruned_and_pruned_again",
    "tests/prune_core/test_images.py::test_import_needs_neither_pyarrow_nor_scikit_learn",
    "tests/prune_core/test_images.py::test_real_photographs_from_parquet",
    "tests/prune_core/test_images_cache.py::test_two_processes_at_once",
    "tests/prune_core/test_images_shared_cache.py::test_processes_of_a_machine_copy_once_and_outlive_one_that_is_killed",
    "tests/prune_core/test_memory.py::test_large_tensors_reuse_freed_memory",
    "tests/prune_core/test_metric_plugins.py",
    "tests/prune_core/test_metrics.py::test_scores_are_finite_for_every_network",
    "tests/prune_core/test_programs.py",
    "tests/prune_core/test_statistics.py::test_the_batch_size_changes_no_statistic_of_a_full_size_network",
    "tests/prune_core/test_surgery.py::test_pruned_and_masked_networks_agree",
    "tests/prune_core/test_training.py::test_a_simple_problem_is_learnt",
    "tests/prune_core/test_training.py::test_recalibration_does_not_lower",
    "tests/results/test_analysis_document.py",
    "tests/results/test_backends.py::test_a_lease_that_is_not_renewed_is_taken_over_and_its_holder_notices",
    "tests/results/test_backends.py::test_every_table_is_the_same_after_compaction",
    "tests/results/test_backends.py::test_many_runs_hold_an_object_store_one_at_a_time",
    "tests/results/test_compact.py::test_a_kill_at_any_moment_loses_no_row",
    "tests/results/test_comparison.py::test_neither_order_nor_other_rows_change_a_difference",
    "tests/results/test_figures.py::test_kept_widths_are_fractions_of_the_layers",
    "tests/results/test_figures.py::test_no_pyplot_is_loaded",
    "tests/results/test_figures.py::test_the_users_own_settings_change_nothing_and_stay",
    "tests/results/test_lease.py::test_a_run_that_was_stopped_for_too_long_loses_its_lease",
    "tests/results/test_lease.py::test_a_second_run_waits_for_the_first_and_says_for_whom",
    "tests/results/test_lease.py::test_a_stopped_holder_learns_that_it_lost_the_folder",
    "tests/results/test_pareto.py::test_a_point_is_on_the_front_if_no_other_dominates_it",
    "tests/results/test_report.py",
    "tests/results/test_store.py::test_a_flipped_bit_never_changes_a_row",
    "tests/results/test_studies.py",
    "tests/results/test_study.py::test_a_failed_cell_beside_one_that_is_ok_changes_nothing",
    "tests/sweep/test_adding.py",
    "tests/sweep/test_cell.py",
    "tests/sweep/test_compensation.py",
    "tests/sweep/test_bad_input.py::test_the_command_itself_ends_with_one_message_and_code_2",
    "tests/sweep/test_export.py",
    "tests/sweep/test_images_seen.py",
    "tests/sweep/test_keep.py",
    "tests/sweep/test_merging.py",
    "tests/sweep/test_networks.py",
    "tests/sweep/test_object_store.py",
    "tests/sweep/test_own_network.py",
    "tests/sweep/test_prune_command.py",
    "tests/sweep/test_plan.py::test_the_plan_says_what_a_ratio_counts",
    "tests/sweep/test_report_command.py",
    "tests/sweep/test_run.py",
    "tests/sweep/test_spec_parsing.py::test_text_that_is_no_spec_is_told",
    "tests/sweep/test_watchdog.py::test_a_worker_that_hangs_is_killed_and_the_reason_is_left",
    "tests/sweep/test_watchdog.py::test_a_worker_that_is_done_in_time_lives_on",
    "tests/sweep/test_weights.py",
    "tests/test_documents.py::test_the_readmes_notebook",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that start a Ray, and puts them first, since they take longest."""
    for item in items:
        if item.nodeid.startswith((*RAY, *APART)):
            item.add_marker(pytest.mark.ray)
        elif item.nodeid.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: not item.nodeid.startswith((*RAY, *APART)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives all tests of `RAY` to one process: two Rays on one machine can find each other.

    Other tests of one file share a process, and with it the fixtures of their module.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "ray" if nodeid.startswith(RAY) else nodeid.partition("::")[0]

    return ByFile(config, log)
