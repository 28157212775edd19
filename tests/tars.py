"""Small WebDataset tars for tests, made with the package's own writer or, where that would not, member by member."""

from __future__ import annotations

import io
import json
import tarfile

import webdataset
from PIL import Image


def png(value):
    """Return a small PNG, a different one for each value."""
    content = io.BytesIO()
    Image.new("RGB", (40, 30), (value % 256, 7, 200)).save(content, "PNG")
    return content.getvalue()


def record(number, images=1, **fields):
    """Return a LLaVA record without its images."""
    markers = "<image>\n" * images
    turns = [{"from": "human", "value": f"{markers}What is {number}?"}, {"from": "gpt", "value": f"A {number}."}]
    return {"conversations": turns, **fields}


def samples(count, start=0):
    """Return samples as `TarWriter` takes them: one image and its record each, every third with two."""
    found = []
    for number in range(start, start + count):
        sample = {"__key__": f"{number:06d}", "json": json.dumps(record(number, 2 if number % 3 == 2 else 1)).encode()}
        if number % 3 == 2:
            sample |= {"0.png": png(number), "1.png": png(number + 100)}
        else:
            sample["png"] = png(number)
        found.append(sample)
    return found


def write_tar(path, written):
    """Write samples with webdataset's own writer."""
    with webdataset.TarWriter(str(path), encoder=False) as writer:
        for sample in written:
            writer.write(sample)
    return path


def write_members(path, members, tar_format=tarfile.PAX_FORMAT):
    """Write a tar member by member: pairs of a name, or a TarInfo, and bytes."""
    with tarfile.open(path, "w", format=tar_format) as archive:
        for name, content in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def read_back(path):
    """Return what webdataset reads of one tar or a list of them: samples without the name of their tar."""
    paths = [str(one) for one in path] if isinstance(path, list) else str(path)
    dataset = webdataset.WebDataset(paths, shardshuffle=False, empty_check=False)
    return [
        {key: value for key, value in sample.items() if key not in {"__url__", "__local_path__"}} for sample in dataset
    ]
