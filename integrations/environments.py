"""An environment of its own for each trainer, installed once from pinned requirements."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TORCH = "torch==2.13.0"  # read by all trainers; older than ours, whose torchvision they do not need


def prepare(name: str, folder: Path) -> Path:
    """Install the environment `name` into `folder`, unless it lies there as its requirements say.

    Every distribution is pinned in ``requirements-NAME.txt`` and installed without its dependencies, since what the
    trainers declare holds packages that loading and training never import. torch comes first, with what it needs.

    Returns
    -------
    Path
        The environment's Python.

    Raises
    ------
    subprocess.CalledProcessError
        An installation failed.
    """
    requirements = HERE / f"requirements-{name}.txt"
    environment = folder / name
    python, installed = environment / "bin" / "python", environment / "installed"
    digest = hashlib.sha256(TORCH.encode() + requirements.read_bytes()).hexdigest()
    if installed.is_file() and installed.read_text(encoding="ascii") == digest:
        return python
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-compile", "--no-warn-conflicts"]
    for words in ([TORCH], ["--no-deps", "--requirement", requirements]):
        subprocess.run([*pip, *words], check=True, stdout=sys.stderr)
    installed.write_text(digest, encoding="ascii")
    return python


def quiet_variables(folder: Path) -> dict[str, str]:
    """Return the process environment for a consumer: no hub, no tracker, caches in `folder`."""
    own = {
        "HF_HOME": str(folder / "huggingface"),
        "MODELSCOPE_CACHE": str(folder / "modelscope"),
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "disabled",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "2",
    }
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return kept | own
