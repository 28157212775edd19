"""TRL reads the exported file as any data set, and its SFTTrainer trains two steps."""

from __future__ import annotations

from typing import Any

from trl import SFTConfig, SFTTrainer

from reporting import Result, pixels_of, report_each


def consume(entry: dict[str, Any]) -> Result:
    """Train on what `entry["code"]` loads as `dataset`, and tell what the trainer's collator makes of each row."""
    names: dict[str, Any] = {}
    exec(entry["code"], names)  # noqa: S102  what the page says is what is to be tested
    dataset = names["dataset"]
    options = SFTConfig(
        output_dir=entry["folder"],
        max_steps=2,
        per_device_train_batch_size=2,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        max_length=None,
        gradient_checkpointing=False,
    )
    trainer = SFTTrainer(entry["model"], args=options, train_dataset=dataset)
    trainer.train()
    rows = [trainer.train_dataset[place] for place in range(len(trainer.train_dataset))]
    images = [[pixels_of(image) for image in row["images"]] for row in rows]  # before collating, which changes rows
    ids = [row.get("id") for row in rows]
    batches = [trainer.data_collator([row]) for row in rows]
    return {
        "rows_in": len(dataset),
        "rows_kept": len(rows),
        "ids": ids,
        "texts": [trainer.processing_class.decode(batch["input_ids"][0]) for batch in batches],
        "images": images,
        "losses": [step["loss"] for step in trainer.state.log_history if "loss" in step],
    }


if __name__ == "__main__":
    report_each("trl", ("trl", "transformers", "datasets", "torch"), consume)
