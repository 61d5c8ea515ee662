"""Every spec that was run in a folder is kept there with all its fields."""

import re

import pytest
import yaml

from prune_core.metrics import METRICS
from results.storage.locations import folder_of
from results.storage.plan_file import Comparison, read_plan
from sweep.errors import SpecError
from sweep.spec.kept import keep_spec
from sweep.spec.packaged import packaged
from sweep.spec.parsing import parse, read
from sweep.spec.writing import resolved

MADE_BY = "prune-sweep 1.2"


@pytest.mark.parametrize("name", packaged())
def test_a_resolved_spec_reads_as_the_same_spec(name):
    assert parse(resolved(read(name)), name) == read(name)


def test_a_resolved_spec_names_every_field_and_option(spec):
    changes = {
        "metrics": [*METRICS, "mutual_information(bins=7, images=50)"],
        "controls.widths_of": [{"name": "kse", "alpha": 2.0}],
        "comparisons": [{"metric": "mutual_information(bins=7, images=50)", "ratio": 0.3}],
        "min_channels": 3,
        "finetune.images": 200,
    }
    made = spec(changes)
    text = resolved(made)
    assert parse(text, "resolved") == made
    content = yaml.safe_load(text)
    assert set(content) == set(type(made).model_fields)
    assert content["finetune"][0]["images"] == 200
    assert content["metrics"][-1]["mutual_information"]["bins"] == 7


def test_a_name_that_looks_like_a_number_stays_a_name(spec):
    made = spec().model_copy(update={"name": "1e5"})
    assert parse(resolved(made), "resolved") == made


def test_an_earlier_spec_is_kept_under_a_number(spec, store):
    specs = [spec({"ratios": [ratio]}) for ratio in (0.3, 0.4, 0.5)]
    for one in [specs[0], specs[0], *specs]:
        keep_spec(store.folder, one, MADE_BY)

    def ratio(name):
        return parse(store.folder.read(name).decode(), name).ratios

    assert ratio("spec.yaml") == [0.5]
    assert (ratio("spec-1.yaml"), ratio("spec-2.yaml")) == ([0.3], [0.4])
    assert not store.folder.has("spec-3.yaml")
    assert store.folder.read("spec.yaml").startswith(f"# {MADE_BY}\n".encode())


def test_a_data_folder_that_the_locale_lacks_is_kept_in_utf_8(spec, store):
    # This is how Python has the name of a folder in the locale C.
    keep_spec(store.folder, spec(), f"{MADE_BY} --data /\udcd0\udcbf")
    assert store.folder.read("spec.yaml").decode().startswith(f"# {MADE_BY} --data /\u043f\n")


def test_a_run_stores_its_spec_and_its_comparisons(run_digits, tmp_path, spec):
    comparison = {"metric": "entropy_gaussian", "ratio": 0.3, "scope": "global"}
    changes = {"metrics": ["output_l1", "entropy_gaussian"], "comparisons": [comparison]}
    done = run_digits(tmp_path / "runs", changes, "--cell", "nothing")
    assert done.exit_code == 2
    assert not (tmp_path / "runs" / "spec.yaml").exists()
    changes |= {"finetune.epochs": 0, "ratios": [0.3]}
    done = run_digits(tmp_path / "runs", changes)
    assert done.exit_code == 0, done.output
    assert parse((tmp_path / "runs" / "spec.yaml").read_text(), "spec.yaml") == spec(changes)
    planned = read_plan(folder_of(tmp_path / "runs")).comparisons
    first = Comparison("entropy_gaussian", 0.3, scope="global")
    assert planned == (first,)
    # Whoever names another one now can have seen the rows.
    changes["comparisons"] = [comparison, {"metric": "entropy_gaussian", "ratio": 0.3}]
    for _ in range(2):
        done = run_digits(tmp_path / "runs", changes)
        planned = read_plan(folder_of(tmp_path / "runs")).comparisons
        assert planned == (first, Comparison("entropy_gaussian", 0.3, in_advance=False))
    # A later spec that names none does not hide what was named in advance.
    assert run_digits(tmp_path / "runs", {**changes, "comparisons": []}).exit_code == 0
    assert read_plan(folder_of(tmp_path / "runs")).comparisons == (first,)


def test_a_comparison_of_a_metric_with_itself_is_refused(spec):
    words = "comparisons[0]: metric and reference are both output_l1"
    with pytest.raises(SpecError, match=re.escape(words)):
        spec({"comparisons": [{"metric": "output_l1", "ratio": 0.3}]})


@pytest.mark.parametrize(
    ("field", "value", "known"),
    [
        ("metric", "random", "output_l1, entropy_gaussian"),
        ("reference", "bn_scale", "output_l1, entropy_gaussian"),
        ("ratio", 0.35, "0.3, 0.6"),
        ("scope", "global", "it has local"),
        ("budget", "uniform_channels", "uniform_parameters"),
        ("normalisation", "layer_zscore", "it has none"),
        ("dataset", "svhn", "digits"),
    ],
)
def test_a_comparison_without_cells_is_refused_by_its_field(field, value, known, spec):
    comparison = {"metric": "entropy_gaussian", "ratio": 0.3, field: value}
    with pytest.raises(SpecError) as caught:
        spec({"scopes": ["local"], "comparisons": [comparison]})
    for word in (f"comparisons[0].{field} is {value}", known):
        assert word in str(caught.value)
