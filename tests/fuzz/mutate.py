"""Damage to files: what discs, networks, editors and people with bad intentions do to them."""

from __future__ import annotations

import gzip
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Random = np.random.Generator
NUMBERS = [b"-1", b"0", b"1", b"1e400", b"-1e-400", b"nan", b"inf", b"99999999999", b"2147483648", b"1.5", b"", b"0x10"]
TOKENS = [
    *NUMBERS, b"null", b"true", b"[]", b"{}", b'"x"', b"%s%n%p", b"../../etc/passwd", b"/dev/zero", b"\x00",
    b"\x1b[31m", b"=1+1", b"<script>", b"$\\frac$", b"\xe9", b"\xff\xff\xff\xff", b"A" * 5000, b"\n", b"\r\n", b"\n\n",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, -1, 0, 1.5, 10**400, 2**63, float("nan"), float("inf"), "", "x", "\u0000\x1b\n", "=1+1", "<b>", "../..",
    [], {}, [[]], [1] * 50, {"name": None}, "[" * 50, "A" * 5000,
]  # fmt: skip


def damaged(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damaged content, and in words what was done."""
    done = []
    for _ in range(int(random.integers(1, 4))):
        ways = [*BYTES]
        if content[:1] in (b"{", b"["):
            ways += [_json] * 12
        if content[:2] == b"\x1f\x8b" or b"LOCAL\n" in content[:2000] or b"encoding: gzip" in content[:2000]:
            ways += [_unpacked] * 8
        if len(content) > 8 and content[8:9] == b"{":
            ways += [_safetensors] * 8
        if b"\n" in content[:200]:
            ways += [_number] * 4 + [_line] * 3
        way = ways[int(random.integers(len(ways)))]
        content = way(content, random)
        done.append(way.__name__.strip("_"))
    return content, ", ".join(done)


def _range(content: bytes, random: Random, longest: int = 64) -> tuple[int, int]:
    # Headers are where it hurts: half of all places are among the first bytes.
    end = min(len(content), 600) if random.random() < 0.5 else len(content)
    start = int(random.integers(max(end, 1)))
    return start, min(len(content), start + int(random.integers(1, longest)))


def _flip(content: bytes, random: Random) -> bytes:
    if not content:
        return b"\x01"
    spoiled = bytearray(content)
    start, _ = _range(content, random)
    spoiled[start] ^= 1 << int(random.integers(8))
    return bytes(spoiled)


def _noise(content: bytes, random: Random) -> bytes:
    start, end = _range(content, random)
    return content[:start] + random.bytes(end - start) + content[end:]


def _same(content: bytes, random: Random) -> bytes:
    start, end = _range(content, random)
    value = (0, 255, 127, 128)[int(random.integers(4))]
    return content[:start] + bytes([value]) * (end - start) + content[end:]


def _truncated(content: bytes, random: Random) -> bytes:
    return content[: int(random.integers(len(content) + 1))]


def _longer(content: bytes, random: Random) -> bytes:
    return content + (random.bytes(40) if random.random() < 0.5 else content[: int(random.integers(len(content) + 1))])


def _dropped(content: bytes, random: Random) -> bytes:
    start, end = _range(content, random)
    return content[:start] + content[end:]


def _repeated(content: bytes, random: Random) -> bytes:
    start, end = _range(content, random)
    return content[:end] + content[start:end] * int(random.integers(1, 20)) + content[end:]


def _token(content: bytes, random: Random) -> bytes:
    start, end = _range(content, random, 8)
    token = TOKENS[int(random.integers(len(TOKENS)))]
    return content[:start] + token + content[end if random.random() < 0.5 else start :]


def _binary_number(content: bytes, random: Random) -> bytes:
    """An extreme number where a header may have one."""
    kind, values = (
        ("<h", (-1, 0, 32767, -32768)),
        ("<i", (-1, 0, 2**31 - 1, -(2**31), 10**6)),
        ("<q", (-1, 2**62, 2**40)),
        ("<f", (float("nan"), float("inf"), -1.0, 0.0, 1e38, 1e-40)),
        ("<d", (float("nan"), float("inf"), -1.0, 0.0, 1e300)),
        (">i", (-1, 2**31 - 1)),
    )[int(random.integers(6))]
    packed = struct.pack(kind, values[int(random.integers(len(values)))])
    end = min(len(content), 600)
    start = int(random.integers(max(1, end // 4))) * 4
    return content[:start] + packed + content[start + len(packed) :]


def _number(content: bytes, random: Random) -> bytes:
    """Another number in a text."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?(e[+-]?\d+)?", content[:5000]))
    if not found:
        return content
    chosen = found[int(random.integers(len(found)))]
    return content[: chosen.start()] + NUMBERS[int(random.integers(len(NUMBERS)))] + content[chosen.end() :]


def _line(content: bytes, random: Random) -> bytes:
    """A line dropped, doubled or moved."""
    lines = content[:20000].split(b"\n")
    at = int(random.integers(len(lines)))
    line = lines.pop(at)
    for _ in range(int(random.integers(3))):
        lines.insert(int(random.integers(len(lines) + 1)), line)
    return b"\n".join(lines) + content[20000:]


def _unpacked(content: bytes, random: Random) -> bytes:
    """Damage within a compressed stream whose checksum is right."""
    for mark, unpack, pack in (
        (b"\x1f\x8b", gzip.decompress, lambda data: gzip.compress(data, mtime=0)),
        (b"x\x9c", zlib.decompress, zlib.compress),
        (b"x\x5e", zlib.decompress, zlib.compress),
        (b"x\x01", zlib.decompress, zlib.compress),
    ):
        start = content.find(mark)
        if start < 0:
            continue
        try:
            plain = unpack(content[start:])
        except (OSError, EOFError, zlib.error):
            continue
        way = BYTES[int(random.integers(len(BYTES)))]
        return content[:start] + pack(way(plain, random))
    return _flip(content, random)


def _safetensors(content: bytes, random: Random) -> bytes:
    """Another header, of the right length."""
    size = int.from_bytes(content[:8], "little")
    if size > len(content):
        return _flip(content, random)
    header = _json(content[8 : 8 + size], random)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def _json(content: bytes, random: Random) -> bytes:
    """A value of a JSON file replaced, dropped, doubled or nested."""
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError):
        return _token(content, random)
    places = list(_places(plain))
    if not places:
        return _token(content, random)
    holder, key = places[int(random.integers(len(places)))]
    how = int(random.integers(6))
    value = VALUES[int(random.integers(len(VALUES)))]
    if isinstance(holder[key], str) and holder[key][:1] == "{" and how < 4:  # JSON within JSON
        holder[key] = _json(holder[key].encode(), random).decode("utf-8", errors="replace")
    elif how < 3:
        holder[key] = value
    elif how == 3:
        del holder[key]
    elif how == 4 and isinstance(holder, dict):
        holder[f"{key} "] = holder.pop(key)
    else:
        holder[key] = [holder[key]] * int(random.integers(3))
    return json.dumps(plain).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value below another: its holder, and its key there."""
    held = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in list(held):
        yield value, key
        yield from _places(each)


BYTES: list[Callable[[bytes, Random], bytes]] = [
    *(_flip, _flip, _noise, _same, _truncated, _longer, _dropped, _repeated, _token, _token, _binary_number),
    _binary_number,
]
