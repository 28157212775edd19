"""Buckets of a local S3 server: made, filled and read back with s3fs, the road that users have beside the package."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import fsspec

_numbers = itertools.count()


def access_for(address):
    """Return the environment in which a process talks to a server."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "of-a-test",
        "AWS_SECRET_ACCESS_KEY": "of-a-test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def new_bucket():
    name = f"bucket-{os.getpid()}-{next(_numbers)}"
    store().mkdir(name)
    return f"s3://{name}"


def store():
    return fsspec.filesystem("s3", use_listings_cache=False)


def upload(folder, url):
    """Put the files below a folder into a bucket, under the same names."""
    for path in Path(folder).rglob("*"):
        if path.is_file():
            store().pipe_file(f"{url}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def download(url, folder):
    """Put everything below a URL into a local folder, and return the folder."""
    prefix = url.removeprefix("s3://")
    for key in store().find(prefix):
        path = folder / key.removeprefix(prefix).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store().cat_file(key))
    return folder


def names_in(url):
    prefix = url.removeprefix("s3://")
    return sorted(key.removeprefix(prefix).lstrip("/") for key in store().find(prefix))
