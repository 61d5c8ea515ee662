"""Fields of a spec are set on the command line; a spec may come from standard input."""

import io

import pytest
import yaml

from results import Store
from sweep.errors import SpecError
from sweep.spec.parsing import parse, read


def test_fields_are_replaced_and_added(content):
    text = yaml.safe_dump(content())
    found = parse(
        text,
        "mine.yaml",
        [
            "ratios=[0.25, 5e-1]",
            "recipe.epochs=3",
            "recipe.learning_rate=5e-4",
            "datasets.0.train_images=200",
            "resources.cell.cpus=2",
            "network.variant=resnet20",
            "metrics=[{entropy_histogram: {bins: 64}}, random]",
            "min_channels=4",
            "statistics_images=",
        ],
    )
    expected = content(
        {
            "ratios": [0.25, 0.5],
            "recipe.epochs": 3,
            "recipe.learning_rate": 0.0005,
            "datasets.0.train_images": 200,
            "resources.cell.cpus": 2,
            "network.variant": "resnet20",
            "metrics": [{"entropy_histogram": {"bins": 64}}, "random"],
            "min_channels": 4,
            "statistics_images": None,
        }
    )
    assert found == parse(yaml.safe_dump(expected), "mine.yaml")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["ratios"], ["'ratios'", "FIELD=VALUE", "recipe.epochs=3"]),
        (["=3"], ["'=3'", "FIELD=VALUE"]),
        (["recipe..epochs=3"], ["FIELD=VALUE"]),
        (["ratios=[0.3"], ["override 'ratios=[0.3'", "not valid YAML"]),
        (["receipe.epochs=3"], ["receipe is not a field", "did you mean recipe?"]),
        (["recipe.epoch=3"], ["recipe.epoch is not a field", "did you mean epochs?"]),
        (["recipe.epochs=many"], ["recipe.epochs is 'many'"]),
        (["datasets.1.train_images=3"], ["datasets is a list of 1", "0 to 0", "not 1"]),
        (["datasets.source=digits"], ["datasets is a list of 1", "not source"]),
        (["name.first=3"], ["name is 'small', which has no field first"]),
        (["ratios.0.1=0.3"], ["ratios.0 is 0.3, which has no field 1"]),
        (["metrics.0.bins=7"], ["no field bins", "'metrics.0={name: output_l1, bins: 7}'"]),
        (["datasets=[svhn]", "datasets.0.bits=9"], ["'datasets.0={source: svhn, bits: 9}'"]),
        (["comparisons=[]", "comparisons.0.metric=x"], ["comparisons is an empty list; set a who"]),
        (["loggers.0=wandb"], ["loggers has no entries; set a whole list with loggers=[...]"]),
        (["datasets.0.source="], ["datasets[0].source is None"]),
    ],
    ids=str,
)
def test_a_wrong_override_is_told(overrides, words, content):
    with pytest.raises(SpecError) as caught:
        parse(yaml.safe_dump(content()), "mine.yaml", overrides)
    assert [word for word in words if word not in str(caught.value)] == []
    nonsense = ("ratios.0={", "name={", "to -1", "name is missing")
    assert [word for word in nonsense if word in str(caught.value)] == []


def test_letters_that_the_locale_lacks_are_read(content):
    # As Python gives the words of a command line where the locale is ASCII.
    override = "datasets.0={source: 'folder:bílés', name: white}"
    given = override.encode().decode("ascii", "surrogateescape")
    found = parse(yaml.safe_dump(content()), "mine.yaml", [given])
    assert found.datasets[0].source == "folder:bílés"


def test_plan_takes_overrides_and_leaves_the_file(invoke, write_spec, tmp_path):
    path = write_spec()
    before = path.read_bytes()
    out = ("--out", tmp_path / "runs")
    done = invoke("plan", path, "ratios=[0.3]", "metrics=[random]", *out)
    assert done.exit_code == 0, done.output
    assert "2: 1 dataset x 1 seed x 1 metric x 2 budgets x 1 ratio" in done.output
    assert path.read_bytes() == before


def test_a_run_stores_the_spec_with_its_overrides(run_digits, tmp_path):
    words = ["ratios=[0.3]", "scopes=[local]", "metrics=[random]", "finetune.epochs=0"]
    done = run_digits(tmp_path / "runs", None, *words)
    assert done.exit_code == 0, done.output
    assert Store(tmp_path / "runs").read(["ratio"])["ratio"].to_pylist() == [0.3]
    kept = read(str(tmp_path / "runs/spec.yaml"))
    assert (kept.ratios, kept.scopes, kept.finetune[0].epochs) == ([0.3], ["local"], 0)


def test_overrides_alone_belong_to_the_default_spec(invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("run", "ratios=[3]")
    assert done.exit_code == 2
    assert "digits with ratios=[3]: ratios[0] is 3" in done.stderr


def test_a_spec_from_standard_input(content, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(content())))
    assert read("-", ["seeds=[7]"]).seeds == [7]
    monkeypatch.setattr("sys.stdin", io.StringIO("name: x\n"))
    with pytest.raises(SpecError, match="standard input: datasets is missing"):
        read("-")


SHARED = """
name: small
datasets: [digits]
recipe: &recipe {epochs: 4}
finetune: *recipe
metrics: [random]
ratios: &ratios [0.3, 0.5]
local_ratios: *ratios
"""


def test_an_override_leaves_other_fields_of_its_anchor():
    found = parse(SHARED, "mine.yaml", ["recipe.epochs=3", "ratios.0=0.9"])
    assert (found.recipe.epochs, found.finetune[0].epochs) == (3, 4)
    assert (found.ratios, found.local_ratios) == ([0.9, 0.5], [0.3, 0.5])


def test_a_list_that_contains_itself_is_refused():
    with pytest.raises(SpecError, match=r"the value of override .* contains itself"):
        parse(SHARED, "mine.yaml", ["ratios=&ratios [*ratios]"])


MERGING = """
name: small
datasets: [digits]
recipe: &recipe {epochs: 5, batch_size: 64, learning_rate: 0.2}
finetune:
  - &short {<<: *recipe, name: short, epochs: 1}
  - {<<: *short, name: long, epochs: 3}
metrics: [random]
ratios: [0.5]
"""


def test_merge_keys_share_a_recipe():
    short, long = parse(MERGING, "mine.yaml").finetune
    assert (short.name, short.epochs, long.name, long.epochs) == ("short", 1, "long", 3)
    assert {(one.batch_size, one.learning_rate) for one in (short, long)} == {(64, 0.2)}


def test_a_field_given_twice_beside_a_merge_key_is_told():
    wrong = MERGING.replace("name: long, epochs: 3", "name: long, epochs: 3, epochs: 4")
    with pytest.raises(SpecError, match="'epochs' is given twice, again in line 7"):
        parse(wrong, "mine.yaml")
