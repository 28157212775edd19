"""From a sample and its pictures to model inputs with known token roles: one processor call a sample."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from scalselect.errors import SampleError
from scalselect.image_files import MAX_PIXELS
from scalselect.records import Reason, TextPart
from scalselect.vlm.batches import SEQUENCE_INPUTS, PreparedSample
from scalselect.vlm.device_memory import is_out_of_memory
from scalselect.vlm.image_fit import padded_to_square
from scalselect.vlm.picture_memo import PictureMemo
from scalselect.vlm.prefix_lm import laid_out, question_and_answer
from scalselect.vlm.retraced_text import retraced_replacements
from scalselect.vlm.token_roles import SpecialTokenEscaper, behind_added_text, render_conversation, roles_of_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL.Image import Image

    from scalselect.records import Sample

# Tokenizers take some fifty bytes of memory a character, and end the process where there is no more.
_MOST_CHARACTERS = 10_000_000
_PLACEHOLDERS = ("image_placeholder_token", "image_token", "video_token", "audio_token")  # of a processor


class SamplePreparer:
    """Turns samples and their pictures into model inputs with known token roles.

    Pictures are padded to a square of `padding_colour` where there is one, of `most_pixels` at most. With `prefix_lm`
    the answer is a suffix that nothing else attends to.
    """

    def __init__(
        self,
        processor: Any,
        *,
        image_token_id: int,
        instruction_tokens: str,
        reads_instruction: bool,
        chat_template: str | None,
        max_length: int | None,
        images_kwargs: dict[str, Any],
        padding_colour: tuple[int, int, int] | None = None,
        most_pixels: int = MAX_PIXELS,
        prefix_lm: bool = False,
    ) -> None:
        self._processor = processor
        self._prefix_lm = prefix_lm
        self._image_token_id = image_token_id
        self._instruction_tokens = instruction_tokens
        self._reads_instruction = reads_instruction
        self._chat_template = chat_template
        self._max_length = max_length
        self._images_kwargs = images_kwargs
        self._padding_colour = padding_colour
        self._most_pixels = most_pixels
        self._memo = PictureMemo(processor.image_processor)
        self._padded: dict[int, Image] | None = None
        tokenizer = processor.tokenizer
        self._bos = tokenizer.bos_token
        # Llama's tokenizers begin a text with a token of no character, but say that it covers the first one.
        self._metaspace_id = tokenizer.get_vocab().get("\u2581")
        token = getattr(processor, "image_placeholder_token", getattr(processor, "image_token", None))
        self._placeholder = token if isinstance(token, str) else None
        placeholders = [getattr(processor, name, None) for name in _PLACEHOLDERS]
        self._escape = SpecialTokenEscaper(
            [
                *(str(token) for token in tokenizer.added_tokens_decoder.values() if token.special),
                *tokenizer.all_special_tokens,
                *(token for token in placeholders if isinstance(token, str)),
            ]
        )

    @property
    def image_processor(self) -> Any:
        """What turns pictures into pixel values."""
        return self._processor.image_processor

    @property
    def pads(self) -> bool:
        """Whether pictures are padded to a square before the image processor sees them."""
        return self._padding_colour is not None

    @property
    def images_preprocessed(self) -> int:
        """How often the image processor has run."""
        return self._memo.computed

    @contextlib.contextmanager
    def same_pictures(self) -> Iterator[None]:
        """Let samples that are prepared in the block share what is made of their pictures, the same objects each."""
        self._padded = {}
        try:
            with self._memo.open():
                yield
        finally:
            self._padded = None

    def prepare(self, sample: Sample, pictures: Sequence[Image], keys: Sequence[str] = ()) -> PreparedSample:
        """Render, tokenize and preprocess one sample.

        Parameters
        ----------
        pictures
            The images of `sample`, RGB, in the order of `Sample.images`.
        keys
            A key for each picture that stands for its pixels, for example a hash; without them nothing is reused.

        Raises
        ------
        SampleError
            With the reason why this sample has no representation.
        """
        _check_length_of_text(sample)
        turns, answer = question_and_answer(sample.turns) if self._prefix_lm else (sample.turns, None)
        rendered = render_conversation(self._processor, turns, escape=self._escape, chat_template=self._chat_template)
        self._check_every_image_is_shown(rendered.text, len(pictures))
        sizes = tuple(picture.size for picture in pictures)
        if self._padding_colour is not None:
            pictures = [self._padded_to_square(picture) for picture in pictures]
        if answer is not None:
            answer, places = self._escape(answer)
            rendered = replace(rendered, escaped=rendered.escaped + places)
        features = self._process(rendered.text, pictures, answer)
        features.pop("labels", None)  # of a training step
        replacements = features.pop("text_replacement_offsets")[0]
        offsets = features.pop("offset_mapping")[0].numpy().astype(np.int64)  # [sequence, 2]
        inputs = {name: value for name, value in features.items() if isinstance(value, Tensor)}
        if len(inputs) != len(features):
            odd = ", ".join(sorted(set(features) - set(inputs)))
            raise SampleError(Reason.IMAGE_REFUSED, f"the processor returns what cannot be batched: {odd}")
        is_vision = (inputs["input_ids"][0] == self._image_token_id).numpy()  # [sequence]
        if not is_vision.any():
            detail = f"the processor wrote no image token (id {self._image_token_id}) for {len(pictures)} images"
            raise SampleError(Reason.IMAGE_REFUSED, detail)
        if self._metaspace_id is not None:
            offsets[(inputs["input_ids"][0] == self._metaspace_id).numpy()] = 0
        prefix = None
        if self._prefix_lm:
            prefix = (inputs["token_type_ids"][0] == 0).numpy()  # [sequence]
            offsets[~prefix] = 0  # they count in another text
            rendered = laid_out(rendered, image_token=self._processor.image_token, bos_token=self._bos)
        if self._placeholder is not None:
            rendered = behind_added_text(rendered, replacements, self._placeholder)
        roles = roles_of_tokens(rendered, replacements, offsets, is_vision)
        if prefix is not None:
            roles = replace(roles, response=~prefix)
        cut = self._cut(inputs, roles.vision, roles.instruction(self._instruction_tokens), rendered.escaped, prefix)
        return replace(cut, images=tuple(keys), sizes=sizes)

    def _padded_to_square(self, picture: Image) -> Image:
        known = {} if self._padded is None else self._padded
        if id(picture) not in known:
            colour = self._padding_colour or (0, 0, 0)
            known[id(picture)] = padded_to_square(picture, colour, self._most_pixels)
        return known[id(picture)]

    def _check_every_image_is_shown(self, text: str, pictures: int) -> None:
        """Raise SampleError where a template leaves images out, as Qwen3-VL's does in system and assistant turns."""
        token = self._placeholder
        if token is not None and text.count(token) != pictures:
            shown = f"the chat template shows {text.count(token)} of {pictures} images; it may leave out those of "
            raise SampleError(Reason.TEMPLATE_REFUSED, shown + "system or assistant turns")

    def _process(self, text: str, pictures: Sequence[Image], suffix: str | None) -> dict[str, Any]:
        # A template that prints the first token itself must not get a second one from the tokenizer.
        own_bos = self._bos is not None and text.startswith(self._bos)
        try:
            features = self._processor(
                text=[text],
                images=list(pictures),
                return_tensors="pt",
                return_offsets_mapping=True,
                return_text_replacement_offsets=True,
                add_special_tokens=not own_bos,
                **({} if suffix is None else {"suffix": [suffix]}),
                **self._images_kwargs,
            )
        except (ValueError, ZeroDivisionError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise SampleError(Reason.IMAGE_REFUSED, str(error).strip().split("\n", 1)[0][:300]) from error
        if "text_replacement_offsets" not in features:
            ids = features["input_ids"][0].tolist()
            told = retraced_replacements(self._processor, text, ids, add_special_tokens=not own_bos)
            features["text_replacement_offsets"] = [told]
        return dict(features)

    def _cut(
        self,
        inputs: dict[str, Tensor],
        vision: np.ndarray,
        instruction: np.ndarray,
        escaped: int,
        prefix: np.ndarray | None = None,
    ) -> PreparedSample:
        length = len(vision)
        limit = length if self._max_length is None else min(length, self._max_length)
        # An image's markers count with it: a mask may let its tokens see those behind them, as Molmo2's does.
        kinds = inputs.get("mm_token_type_ids")
        image = vision if kinds is None else vision | (kinds[0] != 0).numpy()
        if image[limit:].any():
            raise SampleError(Reason.TOO_LONG, f"an image token lies beyond {limit} tokens of {length}")
        if instruction.any() and not instruction[:limit].any():
            raise SampleError(Reason.TOO_LONG, f"the whole instruction lies beyond {limit} tokens of {length}")
        # Under such a mask nothing behind the last token that is read can change what is read. A prefix sees itself.
        read = image | instruction if self._reads_instruction else image
        if prefix is not None:
            read = prefix
        needed = int(np.flatnonzero(read[:limit])[-1]) + 1
        if image[needed - 1] and needed < limit:
            needed += 1  # Qwen-Omni counts on the marker behind an image when it makes positions
        if not self._reads_instruction:
            instruction = np.zeros_like(instruction)
        return PreparedSample(
            inputs={name: x[:, :needed] if name in SEQUENCE_INPUTS else x for name, x in inputs.items()},
            images=(),
            instruction=torch.from_numpy(np.flatnonzero(instruction[:limit])),
            vision=torch.from_numpy(np.flatnonzero(vision[:limit])),
            tokens=limit,
            truncated=limit < length,
            escaped=escaped,
        )


def _check_length_of_text(sample: Sample) -> None:
    """Raise SampleError, `too_long`, for more text than a tokenizer should be given."""
    length = sum(len(part.text) for turn in sample.turns for part in turn.parts if isinstance(part, TextPart))
    if length > _MOST_CHARACTERS:
        raise SampleError(Reason.TOO_LONG, f"{length:,} characters of text, more than {_MOST_CHARACTERS:,}")
