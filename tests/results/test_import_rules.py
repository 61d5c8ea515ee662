"""Results can be read where neither torch nor Ray is installed."""

import subprocess
import sys

WITHOUT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "ray", "prune_core", "sweep"):
            raise ModuleNotFoundError(f"blocked: {name}")

sys.meta_path.insert(0, Refuse())
import results
store = results.Store(sys.argv[1])
store.create()
store.write({"key": "0" * 16, "status": "ok", "seed": 3})
print(results.load(sys.argv[1])["seed"].tolist())
"""


def test_results_need_no_torch_ray_or_sweep(tmp_path):
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[3]\n", "")
