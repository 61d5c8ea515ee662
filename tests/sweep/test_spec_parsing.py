"""Every mistake in a spec is told by file, field, value and what is allowed."""

import math
import re
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from prune_core.metrics import METRICS, Choice
from sweep.errors import SpecError
from sweep.spec.fields import Spec
from sweep.spec.packaged import packaged
from sweep.spec.parsing import parse, read

NAN, INFINITY = math.nan, math.inf

BAD_VALUES = [
    ("metrics", ["output_l7"], ["metrics[0]", "'output_l7'", "output_l1", "random"]),
    ("metrics", ["output_l1(bins=3)"], ["metrics[0]", "output_l1", "bins", "none"]),
    ("metrics", ["entropy_histogram(bins=many)"], ["metrics[0]", "bins", "'many'", "int"]),
    ("metrics", ["entropy_histogram(bins=1)"], ["metrics[0]", "bins", "2"]),
    ("metrics", ["output_l1(images=10)"], ["metrics[0]", "output_l1", "images"]),
    ("metrics", ["entropy_gaussian(images=0)"], ["metrics[0]", "images", "0"]),
    ("metrics", [3], ["metrics[0]", "3", "not a metric"]),
    ("metrics", [{"output_l1": {}, "random": {}}], ["metrics[0]", "not a metric"]),
    ("metrics", [], ["metrics", "at least 1"]),
    ("metrics", "output_l1", ["metrics", "'output_l1'", "list"]),
    ("metrics", ["random", "random"], ["metrics", "names random twice"]),
    ("schedules", ["one_shot", "one_shot"], ["schedules", "names one_shot twice"]),
    ("compensations", ["none", "none"], ["compensations", "names none twice"]),
    (
        "comparisons",
        [{"metric": "entropy_gaussian", "ratio": 0.3}] * 2,
        ["comparisons", "names entry [1] twice"],
    ),
    (
        "metrics",
        ["entropy_histogram", {"entropy_histogram": {"bins": 20}}],
        ["metrics", "names entropy_histogram twice"],
    ),
    ("ratios", [0], ["ratios[0]", "is 0", "greater than 0"]),
    ("ratios", [-0.5], ["ratios[0]", "is -0.5", "greater than 0"]),
    ("ratios", [0.5, 1.5], ["ratios[1]", "is 1.5", "less than or equal to 1"]),
    ("ratios", ["a"], ["ratios[0]", "'a'", "number"]),
    ("ratios", ["0.5"], ["ratios[0]", "'0.5'", "number"]),
    ("ratios", [True], ["ratios[0]", "True", "number"]),
    ("ratios", [None], ["ratios[0]", "None", "number"]),
    ("ratios", [NAN], ["ratios[0]", "nan"]),
    ("ratios", [INFINITY], ["ratios[0]", "inf"]),
    ("ratios", [], ["ratios", "at least 1"]),
    ("ratios", 0.5, ["ratios", "0.5", "list"]),
    ("ratios", [0.5, 0.3, 0.5], ["ratios", "0.5", "twice"]),
    ("ratios", [1, 1.0], ["ratios", "1.0", "twice"]),
    ("ratios", [0.3, 0.3000000001], ["ratios", "has 0.3 and 0.3000000001", "nearly equal"]),
    ("seeds", [], ["seeds", "at least 1"]),
    ("seeds", [-1], ["seeds[0]", "is -1", "greater than or equal to 0"]),
    ("seeds", [2**63], ["seeds[0]", str(2**63), "less than"]),
    ("seeds", [0.5], ["seeds[0]", "is 0.5", "integer"]),
    ("seeds", [0, 1, 0], ["seeds", "names 0 twice"]),
    ("scopes", [], ["scopes", "at least 1"]),
    ("scopes", ["layer"], ["scopes[0]", "'layer'", "'local' or 'global'"]),
    ("scopes", ["local", "local"], ["scopes", "local", "twice"]),
    ("datasets", [], ["datasets", "at least 1"]),
    ("datasets", ["digits", "digits"], ["datasets", "names digits twice"]),
    (
        "datasets",
        ["digits", {"source": "digits", "train_images": 300}],
        ["datasets", "digits, digits", "a different `name`"],
    ),
    ("datasets", [{"name": "digits"}], ["datasets[0].source", "missing"]),
    (
        "datasets",
        [{"source": "digits", "cut": 3}],
        ["datasets[0].cut", "not a field", "train_images"],
    ),
    ("datasets.0.train_images", 1, ["datasets[0].train_images", "is 1", "2"]),
    ("datasets.0.train_images", 300.5, ["datasets[0].train_images", "300.5", "integer"]),
    ("datasets.0.name", "a\nb", ["datasets[0].name", "letters, digits"]),
    ("datasets.0.source", "parquet:..", ["datasets[0]: ", "'parquet:..' gives no usable name"]),
    ("datasets", ["parquet:."], ["datasets[0] is 'parquet:.'", "{source: 'parquet:.', name: "]),
    ("datasets", ["parquet:my photos"], ["'parquet:my photos' gives no usable name; add one"]),
    (
        "datasets",
        ["folder:/tmp?trian=a"],
        ["gives no usable name", "if trian is an option: did you mean train?"],
    ),
    ("datasets", [None], ["datasets[0] is None", "a source such as digits, or a mapping"]),
    ("name", "../out", ["name", "'../out'", "letters, digits"]),
    ("name", "a/b", ["name", "'a/b'", "letters, digits"]),
    ("name", "two\nlines", ["name", "letters, digits"]),
    ("name", "ends\n", ["name", "letters, digits"]),
    ("name", "", ["name", "letters, digits"]),
    ("name", ".hidden", ["name", "'.hidden'"]),
    ("name", "a" * 101, ["name", "at most 100"]),
    ("name", 7, ["name", "is 7", "string"]),
    ("network.variant", "resnet17", ["network", "'resnet17'", "simplenet_5m", "resnet18"]),
    ("network.width", 0, ["network.width", "is 0", "greater than 0"]),
    ("network.depth", 3, ["network", "no option 'depth'", "allowed: width", "groups, combine"]),
    ("network", "simplenet_310k", ["network", "'simplenet_310k'"]),
    ("recipe.epochs", -1, ["recipe.epochs", "is -1", "greater than or equal to 0"]),
    ("recipe.epochs", 1.5, ["recipe.epochs", "is 1.5", "integer"]),
    ("recipe.batch_size", 1, ["recipe.batch_size", "is 1", "2"]),
    ("recipe.momentum", 1, ["recipe.momentum", "is 1", "less than 1"]),
    ("recipe.learning_rate", "fast", ["recipe.learning_rate", "'fast'", "number"]),
    ("recipe.learning_rate", NAN, ["recipe.learning_rate", "nan"]),
    ("recipe.precision", "fp16", ["recipe.precision", "'fp16'", "'auto', 'bf16' or 'fp32'"]),
    ("finetune.weight_deca", 0.1, ["finetune.weight_deca", "not a field", "weight_decay"]),
    ("finetune.flip", "no", ["finetune.flip", "'no'", "boolean"]),
    ("min_channels", 0, ["min_channels.channels", "is 0", "1"]),
    ("min_channels", "4", ["min_channels", "'4'"]),
    ("min_channels", 2.5, ["min_channels is 2.5; must be a whole number, or"]),
    ("min_channels", None, ["min_channels is None; must be a whole number, or a mapping"]),
    ("recipe", 3, ["recipe is 3; it must be a mapping with fields of epochs, batch_size"]),
    ("comparisons", ["random"], ["comparisons[0] is 'random'; it must be a mapping", "reference"]),
    ("min_channels", {"fraction": 2}, ["min_channels.fraction", "is 2", "1"]),
    ("min_channels", {"share": 0.1}, ["min_channels.share", "not a field", "channels, fraction"]),
    ("local_budgets", ["even"], ["local_budgets[0]", "'even'", "'uniform_parameters'"]),
    ("local_budgets", [], ["local_budgets", "at least 1"]),
    ("round_to", 0, ["round_to", "is 0", "1"]),
    ("normalisations", ["z_score"], ["z_score", "allowed", "none", "layer_mean"]),
    ("normalisations", [], ["normalisations", "at least 1"]),
    ("normalisations", ["none", "none"], ["normalisations", "none", "twice"]),
    ("controls.widths_of", ["output_l7"], ["controls.widths_of[0]", "'output_l7'", "random"]),
    ("controls.ratios", [2], ["controls.ratios[0]", "is 2", "less than or equal to 1"]),
    ("controls.scratch", "yes", ["controls.scratch", "'yes'", "boolean"]),
    ("controls.scratchy", True, ["controls.scratchy", "not a field", "widths_of, scratch, ratios"]),
    ("holdout", 0, ["holdout", "is 0", "greater than 0"]),
    ("holdout", 1, ["holdout", "is 1", "less than 1"]),
    ("statistics_images", 0, ["statistics_images", "is 0", "1"]),
    ("resources.cpus", 0, ["resources.cpus", "is 0", "0.01"]),
    ("resources.gpus", -1, ["resources.gpus", "is -1"]),
    ("resources.gpus", 1.5, ["resources.gpus", "is 1.5", "whole number"]),
    ("resources.cell.gpus", -0.5, ["resources.cell.gpus", "is -0.5"]),
    ("resources.baseline.cpu", 1, ["resources.baseline.cpu", "not a field", "cpus, gpus"]),
    ("resources.scale_to", 0, ["resources.scale_to", "is 0", "1"]),
    ("wait_for_nodes_s", -1, ["wait_for_nodes_s", "is -1"]),
    ("ratio", 0.5, ["ratio is not a field", "did you mean ratios?", "allowed here: name, plugins"]),
    ("my-field", 3, ["mine.yaml: my-field is not a field"]),
    ("my field", 3, ["mine.yaml: my field is not a field"]),
    ("two\nlines", 3, ["mine.yaml: 'two\\nlines' is not a field"]),
    ("", 3, ["mine.yaml: '' is not a field"]),
    ("recipe.my-field", 3, ["recipe.my-field is not a field"]),
    ("finetune.my-field", 3, ["finetune.my-field is not a field"]),
    ("receipe", {"epochs": 3}, ["receipe is not a field", "did you mean recipe?"]),
    (1, 2, ["mine.yaml: 1 is not a field of the spec; allowed here: name, plugins"]),
    ("recipe", {"epochs": 1, 3: 3}, ["recipe.3 is not a field", "allowed here: epochs"]),
]


@pytest.mark.parametrize(("field", "value", "words"), BAD_VALUES, ids=str)
def test_a_bad_value_is_told(field, value, words, content):
    changed = content() | {field: value} if field == 1 else content({field: value})
    with pytest.raises(SpecError) as caught:
        parse(yaml.safe_dump(changed), "mine.yaml")
    message = str(caught.value)
    assert [word for word in ["mine.yaml", *words] if word not in message] == [], message


@pytest.mark.parametrize(
    "field", ["name", "datasets", "recipe", "finetune", "metrics", "ratios", "recipe.epochs"]
)
def test_a_field_that_is_missing_is_named(field, content, absent):
    with pytest.raises(SpecError, match=f"^mine.yaml: {field} is missing$"):
        parse(yaml.safe_dump(content({field: absent})), "mine.yaml")


def test_all_mistakes_are_told_at_once(content):
    changed = content({"ratios": [2, 0.5, 0], "seeds": [-1], "colour": "red"})
    with pytest.raises(SpecError) as caught:
        parse(yaml.safe_dump(changed), "mine.yaml")
    fields = {line.split()[1] for line in str(caught.value).splitlines()}
    assert fields == {"ratios[0]", "ratios[2]", "seeds[0]", "colour"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["must be a mapping"]),
        ("# nothing\n", ["must be a mapping"]),
        ("- name: x\n", ["must be a mapping"]),
        ("name", ["must be a mapping"]),
        ("name: x\nname: y\n", ["'name' is given twice", "line 2"]),
        ("name: x\nrecipe:\n  epochs: 1\n  epochs: 2\n", ["'epochs' is given twice", "line 4"]),
        ("name: [x\n", ["not valid YAML", "line"]),
        ("name: x\n\tseeds: 1\n", ["not valid YAML", "line 2"]),
        ("name: !!python/object/apply:os.getcwd []\n", ["not valid YAML"]),
        ("name: !!int x\n", ["not valid YAML"]),
        ("name: !!int ''\n", ["not valid YAML"]),
        ("name: !!bool x\n", ["not valid YAML"]),
        ("name: !!timestamp x\n", ["not valid YAML"]),
        ("name: 2024-13-01\n", ["not valid YAML"]),
        ("? [a]\n: 1\n", ["not valid YAML"]),
        ("name: \0\n", ["not valid YAML"]),
        ("[" * 2000, ["not valid YAML"]),
        ("datasets: &a [*a]\nmetrics: *a\n", ["datasets contains itself"]),
    ],
    ids=repr,
)
def test_text_that_is_no_spec_is_told(text, words):
    with pytest.raises(SpecError) as caught:
        parse(text, "mine.yaml")
    assert [word for word in ["mine.yaml", *words] if word not in str(caught.value)] == []


@pytest.mark.parametrize("text", ["5e-4", "5E-4", "0.5e-3", "+5.e-4", ".5e-3", "0.0005"])
def test_numbers_with_exponents_are_numbers(text, content):
    spec = parse(yaml.safe_dump(content()).replace("0.05", text), "mine.yaml")
    assert spec.finetune[0].learning_rate == 0.0005


def test_an_absent_file_is_told_with_the_packaged_ones(tmp_path):
    with pytest.raises(SpecError) as caught:
        read(str(tmp_path / "absent.yaml"))
    for word in ("absent.yaml", *packaged()):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["folder", "bytes.yaml", "n" * 300])
def test_what_cannot_be_read_is_told(name, tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(SpecError, match=name):
        read(str(tmp_path / name))


def test_a_packaged_name_wins_over_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits").write_text("not: this")
    assert read("digits").name == "digits"


def test_a_plain_source_is_a_dataset(content):
    text = yaml.safe_dump(
        content({"datasets": ["svhn", "parquet:../data/cifar10/", "folder:C:\\x"]})
    )
    names = [(dataset.source, dataset.name) for dataset in parse(text, "mine.yaml").datasets]
    expected = [("svhn", "svhn"), ("parquet:../data/cifar10/", "cifar10"), ("folder:C:\\x", "x")]
    assert names == expected


@given(st.text())
def test_any_text_gives_a_spec_error(text):
    with pytest.raises(SpecError):
        parse(text, "mine.yaml")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=10,
)
FIELDS = st.sampled_from(sorted(Spec.model_fields))


@given(field=FIELDS, value=NESTED, inner=st.sampled_from(["", "epochs", "source", "name", "width"]))
def test_any_value_gives_a_spec_or_a_spec_error(field, value, inner, content):
    changed = content() | {field: {inner: value} if inner else value}
    text = yaml.safe_dump(changed)
    with suppress(SpecError):
        parse(text, "mine.yaml")


@given(NESTED)
def test_any_data_alone_gives_a_spec_error(value):
    with pytest.raises(SpecError):
        parse(yaml.safe_dump(value), "mine.yaml")


def test_the_list_of_metrics_shows_options_as_a_spec_reads_them(invoke):
    listed = re.findall(r"^(\w+(?:\(.*\))?)$", invoke("metrics").stdout, re.MULTILINE)
    assert "widths(file=...)" in listed
    of_metrics = [one for one in listed if one.partition("(")[0] in METRICS]
    assert len(of_metrics) == len(METRICS)
    for one in of_metrics:
        assert Choice.parse(one) == Choice.of(one.partition("(")[0])


@pytest.mark.parametrize("number", ["010", "1:30", "-07", "1:30.5"])
def test_a_number_that_yaml_reads_in_another_base_is_refused(number):
    with pytest.raises(SpecError, match=f"{number} in line 2 is no decimal number"):
        parse(f"name: x\nseeds: [{number}]", "mine.yaml")
