"""XML files of surfaces: where each element is in the file, so that the file can be changed in place."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from maxca.io.surfaces.mesh import Unreadable
from maxca.io.voxels import DEFLATE_LIMIT

MOST_ELEMENTS = 200_000
MOST_TEXT = 1 << 16  # bytes of text kept of an element
START = re.compile(rb"<[^\s/>]+(?:\s+[^\s=]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*\s*(/?)>")


@dataclass(eq=False)
class Element:
    """An element and its place.

    Args:
        tag: its name.
        attributes: by name.
        start: of its start tag in the file.
        inside: end of its start tag.
        end: start of its end tag.
        text: the beginning of its text, without that of its children.
        children: the elements inside.
    """

    tag: str
    attributes: dict[str, str]
    start: int
    inside: int
    end: int = 0
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def named(self, tag: str) -> list[Element]:
        """The children of a name."""
        return [each for each in self.children if each.tag == tag]

    def walk(self) -> Iterator[Element]:
        """The element and all inside, in the order of the file."""
        waiting = [self]
        while waiting:
            yield (each := waiting.pop())
            waiting += reversed(each.children)


def parse(content: bytes, ending: bytes = b"") -> Element:
    """The root of an XML file; entities are not expanded, nothing outside the file is read.

    Args:
        content: the file, or its beginning.
        ending: what makes a beginning a whole.

    Raises:
        Unreadable: for a file that is not XML, or of too many elements.
    """
    root = Element("", {}, 0, 0)
    open_elements, count = [root], 0
    parser = expat.ParserCreate()

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        found = START.match(content, parser.CurrentByteIndex)
        if found is None or count > MOST_ELEMENTS:
            raise Unreadable("its XML is not of a kind that surfaces use; export it again")
        open_elements.append(Element(tag, attributes, found.start(), found.end()))
        open_elements[-2].children.append(open_elements[-1])

    def finish(_: str) -> None:
        each = open_elements.pop()
        each.end = max(each.inside, parser.CurrentByteIndex)

    def say(text: str) -> None:
        if len(open_elements[-1].text) < MOST_TEXT:
            open_elements[-1].text += text

    def refuse(*_: object) -> None:
        raise Unreadable("it declares XML entities, which surfaces do not; export it again")

    parser.StartElementHandler, parser.EndElementHandler = begin, finish
    parser.CharacterDataHandler, parser.EntityDeclHandler = say, refuse
    try:
        parser.Parse(content + ending, True)
    except expat.ExpatError as error:
        raise Unreadable(f"truncated or damaged: {error}; copy or export it again") from error
    return root.children[0]


def from_base64(text: bytes) -> bytes:
    """Decoded bytes.

    Raises:
        Unreadable: for other text.
    """
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error as error:
        raise Unreadable(f"its base64 is damaged: {error}; copy or export it again") from error


def inflated(packed: bytes, size: int) -> bytes:
    """The content of a zlib stream of known size.

    Raises:
        Unreadable: for a stream of another size, or a damaged one.
    """
    if size > len(packed) * DEFLATE_LIMIT:
        raise Unreadable(f"{size} bytes are declared, but {len(packed)} cannot expand to them; copy it again")
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(packed, size + 1)
    except zlib.error as error:
        raise Unreadable(f"its compressed numbers are damaged: {error}; copy or export it again") from error
    if len(content) != size or not stream.eof:
        raise Unreadable(f"its compressed numbers do not hold the {size} bytes declared; copy or export it again")
    return content
