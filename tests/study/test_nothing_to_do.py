"""The same command again, with nothing changed: a run that makes nothing is over at once."""

import subprocess
import sys

from runs import QUICK, TINY, finish, start

HEAVY = ("pytorch_lightning", "monai", "scipy", "sklearn", "matplotlib", "fontTools", "jinja2", "pydicom", "wandb")
SCRIPT = f"""
import sys
from medlat.run import run

code = run(sys.argv[1:])
print("imported:", *(name for name in {HEAVY} if name in sys.modules))
sys.exit(code)
"""


def test_a_run_with_nothing_to_make_imports_nothing_that_makes(tmp_path):
    settings = (*TINY, *QUICK, "logger=none", "report.pdf=false")
    finish(start(tmp_path, *settings))
    metrics, page = (tmp_path / "run" / name for name in ("metrics.json", "report/index.html"))
    before = metrics.read_bytes(), page.read_bytes()
    again = [f"hydra.run.dir={tmp_path / 'run'}", f"store={tmp_path / 'store'}", *settings]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *again], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"
    assert "report: reused" in done.stdout + done.stderr
    assert (metrics.read_bytes(), page.read_bytes()) == before
