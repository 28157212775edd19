"""Images from web addresses: fetched within limits of size and time, tried again where a server stumbles.

Only http and https are spoken, also where a server sends on to another address. What comes back is bytes; nothing else
of an answer is used.
"""

from __future__ import annotations

import functools
import http.client
import re
import ssl
import time
import urllib.parse
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib import request
from urllib.error import HTTPError, URLError

from scalselect.errors import SampleError
from scalselect.failures import NO_HANDLES
from scalselect.records import Reason

if TYPE_CHECKING:
    from typing import NoReturn

MAX_BYTES = 64 * 2**20
SECONDS = 60.0  # of an image at each attempt; and the longest silence of a server
WAITS = (1.0, 3.0)  # seconds before each further attempt

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_KEPT = ":/?#[]@!$&'()*+,;=%~"  # by the encoding of what no address may hold as it is
_PIECE = 1 << 16
_WORTH_ANOTHER_ATTEMPT = {408, 425, 429, 500, 502, 503, 504}
_HEADERS = [("User-Agent", "scalselect"), ("Accept", "image/*,*/*;q=0.5")]
_HANDLERS = (  # those of urllib, less the ones of files, ftp and data
    request.ProxyHandler,
    request.UnknownHandler,
    request.HTTPHandler,
    lambda: request.HTTPSHandler(context=ssl.create_default_context()),
    request.HTTPDefaultErrorHandler,
    request.HTTPRedirectHandler,
    request.HTTPErrorProcessor,
)


class _StumbledError(Exception):
    """What another attempt may mend."""


def is_web_address(path: str) -> bool:
    """Tell whether this is an http or https URL."""
    return _ADDRESS.match(path) is not None


def fetch_image(address: str) -> bytes:
    """Return what lies at a web address.

    Raises
    ------
    SampleError
        `image_missing`: nothing came back after all attempts, or the server refuses; whatever one server does is no
        reason to end a run. `image_too_large`: more than `MAX_BYTES`.
    OSError
        This process has too many files open.
    """
    for wait in (*WAITS, None):
        try:
            return _fetch_once(address)
        except _StumbledError as error:
            if wait is None:
                raise SampleError(Reason.IMAGE_MISSING, f"{error}, {len(WAITS) + 1} times") from None
            time.sleep(wait)
    raise AssertionError  # the last attempt returns or raises


def _fetch_once(address: str) -> bytes:
    deadline = time.monotonic() + SECONDS
    try:
        with _opener().open(urllib.parse.quote(address, safe=_KEPT), timeout=SECONDS) as response:
            return _body(response, deadline)
    except HTTPError as error:
        error.close()
        if error.code in _WORTH_ANOTHER_ATTEMPT:
            raise _StumbledError(f"the server answers {error.code}") from None
        on = ", sending on to where nothing is fetched" if 300 <= error.code < HTTPStatus.BAD_REQUEST else ""  # noqa: PLR2004
        raise SampleError(Reason.IMAGE_MISSING, f"the server answers {error.code}{on}") from None
    except (http.client.InvalidURL, UnicodeError, ValueError) as error:
        raise SampleError(Reason.IMAGE_MISSING, f"no address that is fetched: {error}") from None
    except URLError as error:
        if not isinstance(error.reason, OSError):
            raise SampleError(Reason.IMAGE_MISSING, f"no address that is fetched: {error.reason}") from None
        _refuse_connection(error.reason)
    except (OSError, http.client.HTTPException) as error:
        _refuse_connection(error)


def _refuse_connection(error: Exception) -> NoReturn:
    if isinstance(error, OSError) and error.errno in NO_HANDLES:
        raise error
    raise _StumbledError(f"no connection ({type(error).__name__})") from None


def _body(response: http.client.HTTPResponse, deadline: float) -> bytes:
    pieces: list[bytes] = []
    received = 0
    while piece := response.read1(_PIECE):
        received += len(piece)
        if received > MAX_BYTES:
            raise SampleError(Reason.IMAGE_TOO_LARGE, f"more than {MAX_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise _StumbledError(f"not there after {SECONDS:.0f} seconds")
        pieces.append(piece)
    if response.length:  # `read1` does not tell
        raise _StumbledError("the connection ends before the image does")
    return b"".join(pieces)


@functools.cache
def _opener() -> request.OpenerDirector:
    opener = request.OpenerDirector()
    for handler in _HANDLERS:
        opener.add_handler(handler())
    opener.addheaders = _HEADERS
    return opener
