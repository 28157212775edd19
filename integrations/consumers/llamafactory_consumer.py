"""LLaMA-Factory reads a file by its dataset_info.json entry, through its own training command, and trains two steps."""

from __future__ import annotations

import json
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reporting import Result, pixels_of, report_each

# Imported by LLaMA-Factory at its start and needed for sound only; the package is large and left out here.
sys.modules["torchaudio"] = types.ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)

from llamafactory.train.tuner import run_exp  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class Recorder(TrainerCallback):
    """Keeps what training was given: its data set, its tokenizer, and the losses it reported."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the rows as they come to training, in their order in the data set."""
        self.dataset = kwargs["train_dataloader"].dataset
        self.tokenizer = kwargs["processing_class"]

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the losses."""
        self.losses = [entry["loss"] for entry in state.log_history if "loss" in entry]


def consume(entry: dict[str, Any]) -> Result:
    """Train on a file registered as `entry["dataset_info"]` says, and tell what training was given."""
    folder = Path(entry["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_info.json").write_text(json.dumps(entry["dataset_info"]), encoding="utf-8")
    (dataset,) = entry["dataset_info"]
    recorder = Recorder()
    arguments = {
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "model_name_or_path": entry["model"],
        "template": "llava",
        "dataset_dir": str(folder),
        "dataset": dataset,
        "output_dir": str(folder / "trained"),
        "overwrite_output_dir": True,
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        **entry["options"],  # media_dir
    }
    run_exp(arguments, callbacks=[recorder])
    rows = list(recorder.dataset)
    return {
        "rows_in": None,
        "rows_kept": len(rows),
        "ids": None,  # dropped by its converters
        "texts": [recorder.tokenizer.decode(row["input_ids"]) for row in rows],
        "images": [[pixels_of(image) for image in row["images"] or []] for row in rows],
        "losses": recorder.losses,
    }


if __name__ == "__main__":
    report_each("llamafactory", ("llamafactory", "transformers", "datasets", "trl", "peft", "torch"), consume)
