"""Picture files that are broken, odd, enormous, or no pictures at all."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

_WHOLE = {
    "PNG": "RGB",
    "JPEG": "RGB",
    "GIF": "P",
    "WEBP": "RGB",
    "TIFF": "RGB",
    "BMP": "RGB",
    "ICO": "RGBA",
    "PPM": "RGB",
    "TGA": "RGB",
    "JPEG2000": "RGB",
    "MPO": "RGB",
    "AVIF": "RGB",
    "PCX": "RGB",
    "DDS": "RGBA",
}

_PACKED = zlib.compress(bytes(20_000_000), 1)


def noise(generator: random.Random, mode: str = "RGB", size: tuple[int, int] = (37, 29)) -> Image.Image:
    """Return a picture of noise."""
    pixels = np.frombuffer(generator.randbytes(size[0] * size[1] * 4), np.uint8).reshape(size[1], size[0], 4)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of chunks with the right checksums."""
    pieces = [b"\x89PNG\r\n\x1a\n"]
    for name, content in chunks:
        pieces.append(struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content)))
    return b"".join(pieces)


def png_claiming(width: int, height: int, *between: tuple[bytes, bytes], data: bytes = b"\0\0\0\0") -> bytes:
    """Return a PNG whose header tells a size, whatever it holds."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png_chunks((b"IHDR", header), *between, (b"IDAT", zlib.compress(data)), (b"IEND", b""))


def _any(generator: random.Random) -> bytes:
    kind = generator.choice(list(_WHOLE))
    return encoded(noise(generator, _WHOLE[kind]), kind)


def _truncated(generator: random.Random) -> bytes:
    content = _any(generator)
    return content[: generator.randrange(len(content))]


def _flipped(generator: random.Random) -> bytes:
    content = bytearray(_any(generator))
    for _ in range(generator.choice((1, 2, 10))):
        content[generator.randrange(min(len(content), generator.choice((64, 1 << 20))))] ^= 1 << generator.randrange(8)
    return bytes(content)


def _turned(generator: random.Random) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = generator.choice((*range(1, 9), 0, 9, 65535))
    return encoded(noise(generator), generator.choice(("JPEG", "PNG", "WEBP", "TIFF")), exif=exif)


def _broken_exif(generator: random.Random) -> bytes:
    return encoded(noise(generator), "JPEG", exif=b"Exif\0\0" + generator.randbytes(generator.choice((1, 8, 60000))))


def _animated(generator: random.Random) -> bytes:
    frames = [noise(generator, "RGB", (20, 20)) for _ in range(3)]
    return encoded(frames[0], generator.choice(("GIF", "WEBP", "PNG", "TIFF")), save_all=True, append_images=frames[1:])


def _palette(generator: random.Random) -> bytes:
    transparent = generator.choice((0, 255, bytes(range(256))))
    return encoded(noise(generator, "P"), "PNG", transparency=transparent)


def _mode(generator: random.Random) -> bytes:
    mode, kind = generator.choice(
        (
            ("1", "PNG"),
            ("1", "TIFF"),
            ("L", "PNG"),
            ("LA", "PNG"),
            ("CMYK", "JPEG"),
            ("CMYK", "TIFF"),
            ("YCbCr", "JPEG"),
            ("YCbCr", "TIFF"),
            ("LAB", "TIFF"),
            ("P", "GIF"),
            ("RGBA", "WEBP"),
            ("RGBA", "TIFF"),
            ("F", "TIFF"),
            ("I", "TIFF"),
            ("1", "GIF"),
            ("L", "JPEG2000"),
            ("RGBA", "JPEG2000"),
            ("1", "BMP"),
            ("RGBA", "ICO"),
        )
    )
    return encoded(
        noise(generator, "RGB").convert("L").convert(mode) if mode in {"F", "I"} else _as(mode, generator), kind
    )


def _as(mode: str, generator: random.Random) -> Image.Image:
    if mode != "LAB":
        return noise(generator, mode)
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(noise(generator), *profiles, outputMode="LAB")


def _deep(generator: random.Random) -> bytes:
    kind = generator.choice(("PNG", "TIFF"))
    pixels = np.frombuffer(generator.randbytes(37 * 29 * 4), np.uint16).reshape(29, 74)
    if kind == "TIFF" and generator.random() < 0.5:
        odd = pixels.astype(np.float32) * generator.choice((1, 1e30, float("nan")))
        return encoded(Image.fromarray(odd), kind)
    return encoded(Image.fromarray(pixels), kind)


def _inverted(generator: random.Random) -> bytes:
    """Return a JPEG in CMYK whose Adobe marker tells another transformation (YCCK), or none."""
    content = encoded(noise(generator, "CMYK"), "JPEG")
    place = content.find(b"Adobe")
    return content[: place + 11] + bytes([generator.randrange(4)]) + content[place + 12 :] if place > 0 else content


def _odd_profile(generator: random.Random) -> bytes:
    size = generator.choice((1, 128, 1_000_000))
    return encoded(noise(generator), generator.choice(("JPEG", "PNG", "TIFF")), icc_profile=generator.randbytes(size))


def _long_texts(generator: random.Random) -> bytes:
    name, content = generator.choice(
        (
            (b"zTXt", b"a\0\0" + _PACKED),
            (b"iTXt", b"a\0\1\0\0\0" + _PACKED),
            (b"tEXt", b"a\0" + b"x" * 5_000_000),
            (b"iCCP", b"a\0\0" + _PACKED),
            (b"eXIf", generator.randbytes(1_000_000)),
            (b"zTXt", b"a\0\7xyz"),
            (b"iTXt", b"a"),
            (b"tRNS", b""),
            (b"PLTE", b"123"),
        )
    )
    return png_claiming(20, 20, (name, content), data=(b"\0" + bytes(60)) * 20)


def _bomb(generator: random.Random) -> bytes:
    how = generator.randrange(6)
    if how == 0:
        return png_claiming(100_000, 100_000)
    if how == 1:
        return png_claiming(2**31 - 1, generator.choice((1, 2**31 - 1)))
    if how == 2:
        return png_claiming(1500, 1500, data=bytes(1500 * 4501))  # real pixels, packed a thousandfold
    if how == 3:
        return struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 100, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    if how == 4:
        return b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"\x2c" + bytes(8) + b"\0\2\2\x44\1\0;"
    content = bytearray(encoded(noise(generator), "TIFF"))
    content[: len(content) // 3] = content[: len(content) // 3].replace(struct.pack("<H", 37), struct.pack("<H", 60000))
    return bytes(content)


def _thin(generator: random.Random) -> bytes:
    size = generator.choice(((1, 100_000), (100_000, 1), (1, 200), (200, 1), (1, 1), (2, 401), (65_000, 1)))
    return encoded(
        Image.new("RGB", size), generator.choice(("PNG", "BMP", "JPEG") if max(size) <= 65_000 else ("PNG", "BMP"))
    )


def _no_picture(generator: random.Random) -> bytes:
    return generator.choice(
        (
            b"",
            b"\0",
            b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
            b"<html>404</html>",
            b"%PDF-1.4\n%\n",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            b"PK\3\4",
            b"\xff\xd8\xff",
            b"\xff\xd8\xff\xd9",
            b"RIFF\x10\0\0\0WEBPVP8 ",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"II*\0",
            b"BM",
            bytes(1000),
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
            generator.randbytes(3000),
            png_claiming(0, 9),
            png_claiming(9, 0),
            b"P3 2 2 255 a b c",
            b"P6 99999 99999 255 x",
            b"\x0a\5\1\x08" + bytes(124),
        )
    )


PICTURES: dict[str, Callable[[random.Random], bytes]] = {
    "truncated": _truncated,
    "bytes flipped": _flipped,
    "EXIF-rotated": _turned,
    "EXIF broken": _broken_exif,
    "animated": _animated,
    "palette, transparent": _palette,
    "mode": _mode,
    "16 bits, floats": _deep,
    "CMYK, YCCK": _inverted,
    "ICC broken": _odd_profile,
    "chunks huge or broken": _long_texts,
    "bomb": _bomb,
    "thin": _thin,
    "no picture": _no_picture,
    "wrong ending": _any,
}
