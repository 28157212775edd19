"""Where an image of a sample lies: a local file, a URL, or bytes in the data themselves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scalselect.dataset.image_values import lies_in_the_data, path_of
from scalselect.dataset.record_fields import shown
from scalselect.errors import SampleError
from scalselect.http_images import is_web_address
from scalselect.records import ImageReference, Reason
from scalselect.remote_files import PROTOCOLS, is_known, is_remote, lies_beside

if TYPE_CHECKING:
    from scalselect.dataset.image_values import ImageValue

_FILE_URL = "file:"


def reference_of(
    value: ImageValue, row: int, number: int, folder: str, *, allow_remote: bool = False, confined: bool = False
) -> ImageReference:
    """Return where an image lies: image `number` of the sample that pool row `row` is; see `image_reference`.

    Raises
    ------
    SampleError
        `image_missing`: a URL that is not read.
    """
    path = path_of(value)
    if lies_in_the_data(value):
        return ImageReference(path or f"images[{number}]", "", embedded=(row, number))
    if path is None:
        raise SampleError(Reason.IMAGE_MISSING, "neither bytes nor a path")
    return image_reference(path, folder, allow_remote=allow_remote, confined=confined)


def image_reference(text: str, folder: str, *, allow_remote: bool = False, confined: bool = False) -> ImageReference:
    """Return the file that `text` means, relative paths being relative to `folder`, a local path or a URL.

    URLs of the bucket or repository that `folder` lies in are left as they are; of others, and web addresses, with
    `allow_remote` alone: a record must not decide what this machine reaches with its owner's credentials. Where images
    are `confined` to the folder, whoever reads one holds it against that: links are followed only then.

    Raises
    ------
    SampleError
        `image_missing`: a web address or store that is not allowed, a `file:` URL, or a protocol that is not read.
    """
    within = folder if confined else None
    if text[: len(_FILE_URL)].lower() == _FILE_URL:
        detail = f"a `file:` URL, by which no image is read; give the path alone: {shown(text)}"
        raise SampleError(Reason.IMAGE_MISSING, detail)
    if is_web_address(text):
        if not allow_remote:
            detail = f"a web address, not fetched without --allow-remote-images: {shown(text)}"
            raise SampleError(Reason.IMAGE_MISSING, detail)
        return ImageReference(text, text)
    if is_remote(text):
        if not is_known(text):
            known = ", ".join(f"{protocol}://" for protocol in PROTOCOLS)
            raise SampleError(Reason.IMAGE_MISSING, f"neither a local path nor one of {known}: {shown(text)}")
        if not allow_remote and not lies_beside(text, folder):
            detail = f"in a store that is not the image folder's, not read without --allow-remote-images: {shown(text)}"
            raise SampleError(Reason.IMAGE_MISSING, detail)
        return ImageReference(text, text, within=within)
    if is_remote(folder) and not text.startswith("/"):
        return ImageReference(text, f"{folder.rstrip('/')}/{text}", within=within)
    return ImageReference(text, os.path.join(folder, text), within=within)  # noqa: PTH118  a Path drops `./` and `//`
