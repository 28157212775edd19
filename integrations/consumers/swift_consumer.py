"""ms-swift reads a file by the flags of its own command, `swift sft`, and trains two steps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import swift.template.base as swift_template
from swift.pipelines.train.sft import SwiftSft

from reporting import Result, pixels_of, report_each

if TYPE_CHECKING:
    from PIL import Image

open_image = swift_template.load_image
opened: list[str] = []


def open_and_note(image: Any) -> Image.Image:
    """Open a picture as swift does, and note what was seen."""
    picture = open_image(image)
    opened.append(pixels_of(picture))
    return picture


swift_template.load_image = open_and_note


class RecordedSft(SwiftSft):
    """`swift sft`, keeping the trainer."""

    def train(self, trainer: Any) -> dict[str, Any]:
        """Train as always."""
        self.trainer = trainer
        return super().train(trainer)


def consume(entry: dict[str, Any]) -> Result:
    """Train with the flags `entry["flags"]` and the variables `entry["variables"]`, and tell what each row became."""
    os.environ.pop("ROOT_IMAGE_DIR", None)
    os.environ.update(entry["variables"])
    flags = {
        "model": entry["model"],
        "model_type": "llava1_5_hf",
        "tuner_type": "full",
        "torch_dtype": "float32",
        "max_steps": "2",
        "per_device_train_batch_size": "2",
        "gradient_accumulation_steps": "1",
        "logging_steps": "1",
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": "true",
        "check_model": "false",  # asks the hub whether the checkpoint is its newest
        "split_dataset_ratio": "0",
        "dataset_shuffle": "false",  # rows in the order of the file; training shuffles them again
        "output_dir": entry["folder"],
        **entry["flags"],  # dataset, strict
    }
    pipeline = RecordedSft([word for name, value in flags.items() for word in (f"--{name}", value)])
    pipeline.run()
    dataset = pipeline.trainer.train_dataset
    texts, images = [], []
    for row in range(len(dataset)):
        opened.clear()
        texts.append(pipeline.template.tokenizer.decode(dataset[row]["input_ids"]))
        images.append(list(opened))
    return {
        "rows_in": None,
        "rows_kept": len(dataset),
        "ids": None,  # dropped by its preprocessor
        "texts": texts,
        "images": images,
        "losses": [step["loss"] for step in pipeline.trainer.state.log_history if "loss" in step],
    }


if __name__ == "__main__":
    report_each("ms-swift", ("ms-swift", "transformers", "datasets", "trl", "peft", "torch"), consume)
