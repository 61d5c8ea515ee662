"""A person's own network file: what travels with it, and what is refused."""

import os
import pickle
import subprocess
import sys
import traceback
import types
from pathlib import Path
from textwrap import dedent
from typing import Literal, Optional

import pytest
import torch
from torch import nn

from prune_core.networks.errors import ArchitectureError
from prune_core.networks.source import NetworkSource
from prune_core.options import checked_options, option_defaults

LAYERS = """
from torch import nn

def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())
"""

NET = """
from typing import Literal

from torch import nn

from my_layers import block

def build(classes: int, *, width: float = 1.0, depth: int = 2, pool: Literal["max", "mean"] = "max",
          bias: bool = True):
    channels = [3] + depth * [round(8 * width)]
    blocks = [block(a, b) for a, b in zip(channels, channels[1:])]
    pooling = {"max": nn.AdaptiveMaxPool2d, "mean": nn.AdaptiveAvgPool2d}[pool](1)
    return nn.Sequential(*blocks, pooling, nn.Flatten(), nn.Linear(channels[-1], classes, bias))
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    """Writes files into a folder, which it returns."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text))
    return folder


def names(source: NetworkSource) -> list[str]:
    return [name for name, _ in source.files]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with a network file and one that it imports."""
    return write(
        tmp_path / "mine",
        {"my_net.py": NET, "my_layers.py": LAYERS, "unrelated.py": "raise ValueError"},
    )


def test_the_network_is_built_from_the_texts_alone(mine, tmp_path):
    source = NetworkSource.read("my_net.py:build", mine)
    assert (source.function, source.entry) == ("build", "my_net.py")
    assert names(source) == ["my_layers.py", "my_net.py"]
    expected = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, 8, 8, generator=expected)
    torch.manual_seed(1)
    before = source.build(4, {"depth": 3, "pool": "mean"})(images)
    assert before.shape == (2, 4)

    # A new process that never saw the folder.
    (tmp_path / "source.pickle").write_bytes(pickle.dumps(source))
    mine.rename(tmp_path / "elsewhere")
    code = """
        import pickle, sys, torch
        source = pickle.load(open("source.pickle", "rb"))
        images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
        torch.manual_seed(1)
        net = source.build(4, {"depth": 3, "pool": "mean"})
        torch.save([source.fingerprint, net(images)], "made.pt")
        assert "my_net" not in sys.modules and "my_layers" not in sys.modules
        assert sys.path == before
        print(net[0].__class__.__module__, source.load().__module__)
    """
    said = subprocess.run(
        [sys.executable, "-c", "import sys; before = [*sys.path]\n" + dedent(code)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    fingerprint, made = torch.load(tmp_path / "made.pt")
    assert fingerprint == source.fingerprint
    torch.testing.assert_close(made, before)


def test_the_folder_of_the_texts_is_removed_at_the_end_of_the_process(mine):
    code = (
        "import sys; from prune_core.networks.source import NetworkSource;"
        "source = NetworkSource.read('my_net.py:build');"
        "print(source.load().__code__.co_filename)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=mine, capture_output=True, text=True, check=True
    )
    file = Path(said.stdout.strip())
    assert file.name == "my_net.py"
    assert mine not in file.parents
    assert not file.parent.exists()
    assert {path.name for path in mine.iterdir()} == {"my_layers.py", "my_net.py", "unrelated.py"}


def test_a_value_that_is_hashable_and_equal_when_read_again(mine, monkeypatch):
    source = NetworkSource.read("my_net.py:build", mine)
    assert NetworkSource.read(f"{mine}/my_net.py:build") == source
    monkeypatch.chdir(mine.parent)
    again = NetworkSource.read("mine/my_net.py:build")
    assert again == source
    assert hash(again) == hash(source)
    assert again.fingerprint == source.fingerprint
    assert len(source.fingerprint) == 16
    int(source.fingerprint, 16)


def test_the_fingerprint_changes_with_every_file_that_is_imported_and_no_other(mine):
    first = NetworkSource.read("my_net.py:build", mine).fingerprint
    (mine / "unrelated.py").write_text("raise KeyError")
    assert NetworkSource.read("my_net.py:build", mine).fingerprint == first
    for name in ("my_net.py", "my_layers.py"):
        text = (mine / name).read_text()
        (mine / name).write_bytes(text.replace("\n", "\r\n").encode())
        assert NetworkSource.read("my_net.py:build", mine).fingerprint == first
        (mine / name).write_text(text + "\n# one line more\n")
        assert NetworkSource.read("my_net.py:build", mine).fingerprint != first
        (mine / name).write_text(text)
    (mine / "my_net.py").rename(mine / "other_net.py")
    assert NetworkSource.read("other_net.py:build", mine).fingerprint != first


def test_two_functions_of_a_file_have_two_fingerprints(tmp_path):
    write(
        tmp_path,
        {
            "two.py": """
        from torch import nn
        def narrow(classes): return nn.Linear(2, classes)
        def wide(classes): return nn.Linear(9, classes)
        """,
        },
    )
    narrow, wide = (NetworkSource.read(f"two.py:{name}", tmp_path) for name in ("narrow", "wide"))
    assert narrow.fingerprint != wide.fingerprint
    assert (narrow.build(4).in_features, wide.build(4).in_features) == (2, 9)


def test_sources_in_one_process_keep_their_own_files_of_the_same_name(tmp_path, monkeypatch):
    loaded = types.ModuleType("my_layers")
    monkeypatch.setitem(sys.modules, "my_layers", loaded)
    first = write(tmp_path / "first", {"my_net.py": NET, "my_layers.py": LAYERS})
    second = write(
        tmp_path / "second",
        {
            "my_net.py": NET,
            "my_layers.py": LAYERS.replace("nn.ReLU()", "nn.GELU()"),
        },
    )
    sources = [NetworkSource.read("my_net.py:build", folder) for folder in (first, second)]
    for _ in range(2):
        nets = [source.build(3) for source in sources]
        assert [type(net[0][1]) for net in nets] == [nn.ReLU, nn.GELU]
    # Changed while the process runs: the old value still builds the old network.
    (first / "my_layers.py").write_text(LAYERS.replace("nn.ReLU()", "nn.Tanh()"))
    changed = NetworkSource.read("my_net.py:build", first)
    assert type(changed.build(3)[0][1]) is nn.Tanh
    assert type(sources[0].build(3)[0][1]) is nn.ReLU
    assert sys.modules["my_layers"] is loaded
    assert "my_net" not in sys.modules
    assert not {str(first), str(second)} & set(sys.path)


BUILD = "def build(classes): return "
PACKAGES = {
    "an import within the function": {
        "my_net.py": """
        def build(classes):
            from late import made
            return made(classes)
        """,
        "late.py": "from torch.nn import Identity as made",
    },
    "an import that depends on an option": {
        "my_net.py": """
        from torch import nn
        def build(classes, *, kind: str = "plain"):
            if kind == "late":
                import late
                return late.made(classes)
            return nn.Identity()
        """,
        "late.py": "from torch.nn import Identity as made",
    },
    "an import in the forward pass": {
        "my_net.py": """
        from torch import nn
        class build(nn.Module):
            def __init__(self, classes):
                super().__init__()
            def forward(self, images):
                from late import same
                return same(images)
        """,
        "late.py": "def same(images): return images",
    },
    "a module of a package": {
        "my_net.py": f"import parts.late\n{BUILD}parts.late.made(parts.CLASSES)",
        "parts/__init__.py": "CLASSES = 3",
        "parts/late.py": "from torch.nn import Identity as made",
    },
    "a module of a package by another name": {
        "my_net.py": f"import more, parts.late as other, math\n{BUILD}other.made(math.pi)",
        "more.py": "",
        "parts/__init__.py": "",
        "parts/late.py": "from torch.nn import Identity as made",
    },
    "a package that imports its own modules": {
        "my_net.py": f"from parts import made\n{BUILD}made(classes)",
        "parts/__init__.py": "from .late import made",
        "parts/late.py": "from .deep.est import made",
        "parts/deep/__init__.py": "from .. import deep",
        "parts/deep/est.py": "from ...parts.name import made",
        "parts/name.py": "import outside\nmade = outside.made",
        "outside.py": "from torch.nn import Identity as made",
    },
    "a folder that is no package": {
        "my_net.py": f"from parts.late import made\nfrom parts import more\n{BUILD}made(classes)",
        "parts/late.py": "from torch.nn import Identity as made",
        "parts/more.py": "",
    },
    "everything of a package": {
        "my_net.py": f"from parts import *\n{BUILD}late.made(classes)",
        "parts/__init__.py": "__all__ = ['late']",
        "parts/late.py": "from torch.nn import Identity as made",
    },
    "a relative import": {
        "my_net.py": f"from .late import made\nfrom . import more\n{BUILD}made(classes)",
        "late.py": "from torch.nn import Identity as made",
        "more.py": "",
    },
    "files that import each other": {
        "my_net.py": f"import late\ndef made(): return late.made()\n{BUILD}made()",
        "late.py": "import my_net, torch\ndef made(): return torch.nn.Identity(my_net)",
    },
    "a file with the name of an installed module": {
        "my_net.py": f"import statistics, json\n{BUILD}statistics.made(json.dumps(1))",
        "statistics.py": "from torch.nn import Identity as made",
    },
}


@pytest.mark.parametrize("files", PACKAGES.values(), ids=PACKAGES)
def test_files_travel_however_they_are_imported(files, tmp_path):
    loaded = {name: sys.modules.get(name) for name in ("statistics", "late", "parts", "my_net")}
    folder = write(tmp_path / "mine", files)
    source = NetworkSource.read("my_net.py:build", folder)
    expected = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
    assert set(names(source)) == expected
    folder.rename(tmp_path / "elsewhere")
    images = torch.rand(1, 3, 4, 4)
    options = {"kind": "late"} if source.options else {}
    for _ in range(2):
        assert source.build(5, options)(images) is images
    assert loaded == {name: sys.modules.get(name) for name in loaded}


def test_a_late_import_works_in_a_compiled_network(tmp_path):
    folder = write(tmp_path / "mine", PACKAGES["an import in the forward pass"])
    source = NetworkSource.read("my_net.py:build", folder)
    compiled = torch.compile(source.build(3), backend="eager", fullgraph=True)
    images = torch.rand(1, 3, 4, 4)
    assert torch.equal(compiled(images), images)


def test_what_does_not_run_in_a_build_does_not_travel(tmp_path):
    write(
        tmp_path,
        {
            "my_net.py": """
        from typing import TYPE_CHECKING
        from torch import nn
        if TYPE_CHECKING:
            from mine_types import Shape
        else:
            import needed

        def build(classes): return nn.Linear(2, classes)

        if __name__ == "__main__":
            import train
            train.train(build(10))
        """,
            "train.py": "",
            "mine_types.py": "",
            "needed.py": "",
        },
    )
    source = NetworkSource.read("my_net.py:build", tmp_path)
    assert names(source) == ["my_net.py", "needed.py"]


def test_installed_modules_and_this_package_do_not_travel(tmp_path):
    site = tmp_path / "lib" / "site-packages"
    write(
        site,
        {
            "my_net.py": f"import prune_core.seeds, torch.nn\nfrom .late import made\n{BUILD}made",
            "late.py": "from torch.nn import Identity as made",
            "torch/__init__.py": "",
            "torch/nn.py": "",
            "prune_core/__init__.py": "",
            "prune_core/seeds.py": "",
        },
    )
    assert names(NetworkSource.read("my_net.py:build", site)) == ["late.py", "my_net.py"]
    beside = site.rename(tmp_path / "mine")
    (beside / "torch" / "__init__.py").unlink()
    (beside / "torch" / "nn.py").unlink()
    assert names(NetworkSource.read("my_net.py:build", beside)) == ["late.py", "my_net.py"]


def test_encodings_and_line_endings(tmp_path):
    text = '# coding: latin-1\nfrom torch import nn\nNAME = "é"\n' + BUILD + "nn.Identity(NAME)\n"
    (tmp_path / "my_net.py").write_bytes(text.replace("\n", "\r\n").encode("latin-1"))
    source = NetworkSource.read("my_net.py:build", tmp_path)
    assert source.files == (("my_net.py", text),)
    assert source.load().__globals__["NAME"] == "é"


def test_reading_draws_no_random_numbers(mine):
    state = torch.random.get_rng_state()
    source = NetworkSource.read("my_net.py:build", mine)
    assert torch.equal(torch.random.get_rng_state(), state)
    source.build(3)
    assert not torch.equal(torch.random.get_rng_state(), state)


def test_options_by_name_default_and_type(mine):
    source = NetworkSource.read("my_net.py:build", mine)
    assert {name: (p.default, p.annotation) for name, p in source.options.items()} == {
        "width": (1.0, float),
        "depth": (2, int),
        "pool": ("max", Literal["max", "mean"]),
        "bias": (True, bool),
    }
    assert option_defaults(source.load()) == {
        "width": 1.0,
        "depth": 2,
        "pool": "max",
        "bias": True,
    }
    assert source.build(3, {"width": 2, "bias": False})[-1].in_features == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widht": 2.0}, "my_net.py:build' has no option 'widht'; did you mean width"),
        ({"depth": 2.0}, "option 'depth' is 2.0; it must be of type int"),
        ({"depth": True}, "option 'depth' is True; it must be of type int"),
        ({"bias": 1}, "option 'bias' is 1; it must be of type bool"),
        ({"width": "2"}, "option 'width' is '2'; it must be of type float"),
        ({"width": float("nan")}, "option 'width' is nan; it must be a finite number"),
        ({"pool": "min"}, "option 'pool' is 'min'; allowed: max, mean"),
    ],
)
def test_wrong_options_are_refused(mine, options, message):
    source = NetworkSource.read("my_net.py:build", mine)
    with pytest.raises(ArchitectureError) as raised:
        source.build(3, options)
    assert message in str(raised.value)


def test_options_of_any_function_are_filled_in():
    def build(
        classes,
        *,
        a: int,
        b: float | None = None,
        c: Literal[1, "x"] = "x",
        d: float = 1,
        e: Optional[int] = None,  # noqa: UP045
    ):
        """Options of all kinds."""

    assert option_defaults(build) == {"b": None, "c": "x", "d": 1, "e": None}
    filled = checked_options(build, {"a": 4}, "it")
    assert filled == {"a": 4, "b": None, "c": "x", "d": 1.0, "e": None}
    assert [*filled] == ["a", "b", "c", "d", "e"]
    assert isinstance(filled["d"], float)
    assert checked_options(build, {"a": 4, "b": 2, "c": 1}, "it")["b"] == 2.0
    for given, message in [
        ({}, "it needs a value for its option 'a'"),
        ({"a": 1, "b": "2"}, "it, option 'b' is '2'; it must be of type float or none"),
        ({"a": 1, "c": True}, "it, option 'c' is True; allowed: 1, x"),
        ({"a": 1, "classes": 3}, "it has no option 'classes'; allowed: a, b, c, d, e"),
    ]:
        with pytest.raises(ArchitectureError) as raised:
            checked_options(build, given, "it", ArchitectureError)
        assert str(raised.value) == message


@pytest.mark.parametrize("annotation", ["", ": list", ": int | list", ": 'Unknown'"])
def test_options_need_types_that_a_spec_can_give(tmp_path, annotation):
    write(tmp_path, {"my_net.py": f"def build(classes, *, depth{annotation} = 1): return 1"})
    source = NetworkSource.read("my_net.py:build", tmp_path)
    with pytest.raises(ArchitectureError, match=r"'my_net.py:build'.* annotation"):
        source.build(3)


def test_a_class_is_a_function_too(tmp_path):
    write(
        tmp_path,
        {
            "my_net.py": """
        from torch import nn
        class Net(nn.Linear):
            def __init__(self, classes: int, *, inputs: int = 2):
                super().__init__(inputs, classes)
        """,
        },
    )
    source = NetworkSource.read("my_net.py:Net", tmp_path)
    assert source.build(3, {"inputs": 7}).weight.shape == (3, 7)
    with pytest.raises(ArchitectureError, match="'outputs'; allowed: inputs"):
        source.build(3, {"outputs": 7})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent.py:build", "'absent.py:build': there is no file absent.py in "),
        ("my_net.py", "'my_net.py' must be a Python file and a function, such as my_net.py:build"),
        ("my_net.py:", "must be a Python file and a function"),
        ("my_net.txt:build", "must be a Python file and a function"),
        (".:build", "must be a Python file and a function"),
        ("my_net.py:buidl", "my_net.py has no function 'buidl'; it has build"),
        (
            "my_net.py:block",
            r"has the parameters \(inputs, outputs\); it must take one, the",
        ),
    ],
)
def test_a_source_that_names_no_function_is_refused(mine, source, message):
    with pytest.raises(ArchitectureError, match=message):
        NetworkSource.read(source, mine)


@pytest.mark.parametrize(
    "parameters",
    ["", "classes, depth=3", "*, classes", "*classes", "depth, classes"],
)
def test_a_function_that_does_not_take_classes_alone_is_refused(tmp_path, parameters):
    write(tmp_path, {"my_net.py": f"def build({parameters}): return 1"})
    with pytest.raises(ArchitectureError, match=r"options after a \*, such as \(classes: int,"):
        NetworkSource.read("my_net.py:build", tmp_path)


@pytest.mark.parametrize("name", ["classes", "num_classes", "n"])
def test_the_number_of_classes_may_have_any_name(tmp_path, name):
    text = f"from torch import nn\ndef build({name}, *, bias: bool = True):\n"
    write(tmp_path, {"my_net.py": f"{text}    return nn.Linear(3, {name}, bias)"})
    source = NetworkSource.read("my_net.py:build", tmp_path)
    assert source.build(7, {"bias": False}).out_features == 7


TRAVEL = (
    ". Only files beside my_net.py or in folders below it that import statements name travel with "
    "it; all other modules must be installed on every machine"
)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"my_net.py": "import math\nfrom absent.deep import made"},
            "raised at my_net.py, line 2 (from absent.deep import made): "
            f"ModuleNotFoundError: No module named 'absent'{TRAVEL}",
        ),
        (
            {"my_net.py": "import late", "late.py": "\nfrom late2 import made", "late2.py": ""},
            "raised at late.py, line 2 (from late2 import made): "
            "ImportError: cannot import name 'made' from 'late2' (late2.py)" + TRAVEL,
        ),
        (
            {"my_net.py": "from .absent import made"},
            "raised at my_net.py, line 1 (from .absent import made): "
            f"ModuleNotFoundError: No module named 'absent'{TRAVEL}",
        ),
        (
            {"my_net.py": "\nfrom .. import made"},
            "raised at my_net.py, line 2 (from .. import made): "
            f"ImportError: attempted relative import beyond top-level package{TRAVEL}",
        ),
        (
            {"my_net.py": "import importlib\nimportlib.import_module('late')", "late.py": ""},
            "raised at my_net.py, line 2 (importlib.import_module('late')): "
            f"ModuleNotFoundError: No module named 'late'{TRAVEL}",
        ),
        (
            {"my_net.py": "import parts.late", "parts/late.py": "def build(:\n  return 1"},
            "raised at parts/late.py, line 1 (def build(:): SyntaxError: invalid syntax",
        ),
        (
            {"my_net.py": "import torch\ntorch.zeros(3).reshape(2)"},
            "raised at my_net.py, line 2 (torch.zeros(3).reshape(2)): "
            "RuntimeError: shape '[2]' is invalid for input of size 3",
        ),
        ({"my_net.py": "raise SystemExit(3)"}, "line 1 (raise SystemExit(3)): SystemExit: 3"),
    ],
)
def test_a_file_that_cannot_be_imported_is_told(tmp_path, files, said):
    write(tmp_path, files)
    with pytest.raises(ArchitectureError) as raised:
        NetworkSource.read("my_net.py:build", tmp_path)
    assert str(raised.value).startswith("network 'my_net.py:build' raised at ")
    assert said in str(raised.value)
    assert "prune_sweep_network_" not in str(raised.value)


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "my_net.py").write_bytes(b"NAME = '\xff'")
    with pytest.raises(ArchitectureError, match=r"my_net.py cannot be read: .* encoding"):
        NetworkSource.read("my_net.py:build", tmp_path)


def test_a_function_that_raises_is_told_with_its_line(tmp_path):
    write(
        tmp_path,
        {
            "my_net.py": """
        from late import layer
        def build(classes, *, depth: int = 1):
            return layer(depth)
        """,
            "late.py": """
        from torch import nn
        def layer(depth):
            return nn.Conv2d(3, 8, 3, groups=depth)
        """,
        },
    )
    source = NetworkSource.read("my_net.py:build", tmp_path)
    with pytest.raises(ArchitectureError) as raised:
        source.build(3, {"depth": 2})
    assert str(raised.value) == (
        "network 'my_net.py:build' raised at late.py, line 4 (return nn.Conv2d(3, 8, 3, "
        "groups=depth)): ValueError: in_channels must be divisible by groups"
    )
    # The whole traceback, with the lines of both files.
    lines = "".join(traceback.format_exception(raised.value))
    assert "return layer(depth)" in lines
    assert "return nn.Conv2d(3, 8, 3, groups=depth)" in lines


def test_a_function_that_fails_only_for_ten_classes_can_be_read(tmp_path):
    text = "from torch import nn\n" + BUILD + "nn.Linear(2, {2: 2}[classes])"
    write(tmp_path, {"my_net.py": text})
    source = NetworkSource.read("my_net.py:build", tmp_path)
    assert source.build(2).out_features == 2
    with pytest.raises(ArchitectureError, match=r"line 2 .*: KeyError: 10"):
        source.build(10)


def test_a_result_that_is_no_module_is_refused(tmp_path):
    write(tmp_path, {"my_net.py": BUILD + "[classes]"})
    source = NetworkSource.read("my_net.py:build", tmp_path)
    with pytest.raises(ArchitectureError, match=r"returned list; it must return a torch.nn.Module"):
        source.build(3)


def test_a_file_that_would_not_travel_is_refused(tmp_path, monkeypatch):
    text = f"import importlib\n{BUILD}importlib.import_module('hidden_layers').made(classes)"
    write(
        tmp_path, {"my_net.py": text, "hidden_layers.py": "from torch.nn import Identity as made"}
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(ArchitectureError, match="write `import hidden_layers`"):
            NetworkSource.read("my_net.py:build", tmp_path)
    finally:
        sys.modules.pop("hidden_layers", None)


PLUGIN = '''
from torch import nn
from prune_core.networks.registry import network

@network(source="a test")
def one_layer(classes: int, *, width: float = 1.0) -> nn.Module:
    """A single linear layer."""
    return nn.Linear(round(8 * width), classes)
'''


def test_an_installed_package_registers_its_networks(tmp_path):
    write(tmp_path, {"their_networks.py": PLUGIN})
    metadata = tmp_path / "their_networks-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their_networks\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[prune_sweep.networks]\nmine = their_networks\n")
    code = "from prune_core.networks import NETWORKS; print(NETWORKS['one_layer'].summary)"
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout == "A single linear layer.\n", said.stderr
    assert not said.stderr
