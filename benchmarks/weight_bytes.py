"""Which weights the method needs, found from gradients, beside those that were materialised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from process_memory import Cost
    from scalselect.vlm.batches import PreparedSample


def needed_parameters(model: Any, sample: PreparedSample) -> set[str]:
    """Return the names of the parameters that a gradient reaches, going back from what the method reads.

    That is decoder layer 0's output at vision tokens and its attention from instruction to vision tokens: a count
    that knows nothing of how the model was truncated. The embedding table counts whole. Key biases count though their
    gradient is 0 but for rounding: they shift all scores of a row alike, which softmax does not see.
    """
    model.set_attn_implementation({"text_config": "eager"})
    layer = model.get_decoder().layers[0]
    outputs: dict[str, Any] = {}
    layer.register_forward_hook(lambda _module, _inputs, output: outputs.update(hidden=output))
    layer.self_attn.register_forward_hook(lambda _module, _inputs, output: outputs.update(attention=output[1]))
    model(**sample.inputs, use_cache=False)
    hidden = outputs["hidden"][0, sample.vision]  # [vision, hidden]
    attention = outputs["attention"][0][:, sample.instruction][:, :, sample.vision]  # [heads, instruction, vision]
    (hidden.sum() + attention.sum()).backward()
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and (parameter.grad.any() or name.endswith("k_proj.bias"))
    }


def bytes_table(model: Any, needed: set[str], costs: dict[str, list[Cost]]) -> list[str]:
    """Return the lines that compare what was materialised with what is needed."""
    sizes = {name: parameter.nbytes for name, parameter in model.named_parameters()}
    materialised, wanted = sum(sizes.values()), sum(sizes[name] for name in needed)
    counts = {
        "tensors of the whole checkpoint": costs["whole"][0].read,
        "tensors read from it": costs["first"][0].read,
        "parameters materialised": materialised,
        "parameters needed": wanted,
        "buffers, computed and not read": sum(buffer.nbytes for buffer in model.buffers()),
    }
    return [
        *(f"bytes of {name:33}{count:>15,}" for name, count in counts.items()),
        f"materialised / needed: {materialised / wanted:.4f} (goal: 1.00)",
        *(f"  materialised, not needed: {name} {sizes[name]:,}" for name in sorted(sizes.keys() - needed)),
    ]
