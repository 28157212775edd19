"""Named tensors in the files of a checkpoint: listed, read one at a time, and written in files of bounded size.

Files are safetensors, or pickles that hold tensors and nothing else. No file is ever held in memory as a whole, but
for pickles in the format that torch wrote before version 1.6.
"""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from scalselect.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

# In the order in which transformers looks for them.
_SINGLE_AND_INDEX = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class StoredTensors:
    """The tensors of one or several files.

    Attributes
    ----------
    names
        Of all tensors, sorted.
    where
        The folder or file, for messages.
    """

    def __init__(self, files: dict[str, Path], where: Path) -> None:
        self._files = files
        self._open: tuple[Path, Any, set[str]] | None = None  # one file at a time, with its names
        self.where = where
        self.names = sorted(files)

    @classmethod
    def of_folder(cls, folder: Path) -> StoredTensors:
        """Return the weights of a checkpoint folder, in one file or in several with an index.

        Raises
        ------
        ModelError
            If there are none, or they cannot be read.
        """
        for single, index in _SINGLE_AND_INDEX:
            if (folder / single).is_file():
                return cls.of_file(folder / single)
            if (folder / index).is_file():
                return cls({name: folder / file for name, file in _weight_map(folder / index).items()}, folder)
        wanted = ", ".join(name for names in _SINGLE_AND_INDEX for name in names)
        raise ModelError(f"folder holds no weights: {folder} (looked for {wanted})")

    @classmethod
    def of_file(cls, file: Path) -> StoredTensors:
        """Return the tensors of one file. Raises ModelError."""
        content = _opened(file)
        return cls(dict.fromkeys(content.keys(), file), file)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it. Raises ModelError."""
        content = self._content(name)
        return tuple(content[name].shape if isinstance(content, dict) else content.get_slice(name).get_shape())

    def dtype(self, name: str) -> torch.dtype:
        """Return the number type of a tensor without reading it. Raises ModelError where it is no floating one."""
        content = self._content(name)
        found = content[name].dtype if isinstance(content, dict) else content.get_slice(name).get_dtype()
        dtype: torch.dtype = _TYPES.get(found, found)
        if dtype not in _TYPES.values():
            raise ModelError(f"tensor `{name}` holds no plain floating-point numbers but {found}: {self.where}")
        return dtype

    def file(self, name: str) -> Path:
        """Return the file that holds a tensor."""
        return self._files[name]

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor, on the CPU, as stored. Raises ModelError."""
        content = self._content(name)
        tensor: torch.Tensor = content[name].detach() if isinstance(content, dict) else content.get_tensor(name)
        return tensor

    def _content(self, name: str) -> Any:
        file = self._files[name]
        if self._open is None or self._open[0] != file:
            self._open = None  # first let go of the file before
            content = _opened(file)
            self._open = (file, content, set(content.keys()))
        if name not in self._open[2]:
            raise ModelError(f"file does not hold the tensor `{name}` that its index tells of: {file}")
        return self._open[1]


@dataclass(frozen=True, slots=True)
class TensorToWrite:
    """A tensor that is made when its file is written: `read` is called once."""

    name: str
    nbytes: int
    read: Callable[[], torch.Tensor]


def write_tensors(folder: Path, tensors: Sequence[TensorToWrite], *, file_bytes: int) -> list[Path]:
    """Write tensors as safetensors files of at most `file_bytes` each, with an index where they are several.

    A tensor larger than that has a file of its own. At most two files' bytes are held in memory at a time.

    Raises
    ------
    OSError, SafetensorError
        If a file cannot be written.
    """
    groups: list[list[TensorToWrite]] = []
    for tensor in tensors:
        if not groups or sum(item.nbytes for item in groups[-1]) + tensor.nbytes > file_bytes:
            groups.append([])
        groups[-1].append(tensor)
    weight_map: dict[str, str] = {}
    files = []
    for number, group in enumerate(groups, start=1):
        name = "model.safetensors" if len(groups) == 1 else f"model-{number:05}-of-{len(groups):05}.safetensors"
        # Copies, for what was stored may be a view into something larger, or shared.
        content = {item.name: item.read().clone(memory_format=torch.contiguous_format) for item in group}
        (folder / name).touch()
        mode = (folder / name).stat().st_mode
        save_file(content, folder / name, metadata={"format": "pt"})
        (folder / name).chmod(mode)  # some versions leave it to its owner alone
        _flush(folder / name)
        weight_map |= {item.name: name for item in group}
        files.append(folder / name)
    if len(groups) > 1:
        index = {"metadata": {"total_size": sum(tensor.nbytes for tensor in tensors)}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return files


def _weight_map(index: Path) -> dict[str, str]:
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(file) for name, file in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"index of weights cannot be read: {index} ({type(error).__name__}: {error})") from error


def _opened(file: Path) -> Any:
    """Return an open safetensors file, or the dictionary of a pickle, its tensors mapped where the format allows."""
    if not file.is_file():
        raise ModelError(f"file of weights does not exist: {file}")
    try:
        if file.suffix == ".safetensors":
            return safe_open(file, framework="pt", device="cpu")
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        raise ModelError(f"file is no pickle of tensors alone, and nothing else is unpickled: {file}") from error
    except Exception as error:  # torch's unpickler raises nearly everything on broken files
        reason = str(error).strip().split("\n", 1)[0][:200]
        raise ModelError(f"file of weights cannot be read: {file} ({reason or type(error).__name__})") from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelError(f"file is no dictionary of tensors: {file}")
    return content


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
