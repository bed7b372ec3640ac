"""Parse an annotation's XML, keeping lines, in whatever encoding it declares."""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

DECLARED = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([^"'>]*)["']""")
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
WIDE = {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}
# Files that declare the older standard are written in the wider one of the same name on Windows, as browsers know.
WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "cp950", "shift_jis": "cp932", "euc_kr": "cp949"}


class XmlError(Exception):
    """Say what is wrong with a file, and in which line."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


@dataclass
class Node:
    """An XML element that remembers its line."""

    tag: str
    line: int
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def child(self, tag: str) -> Node | None:
        """Return the first direct child of that name: VOC's `part` elements nest the same names deeper."""
        return next((node for node in self.children if node.tag == tag), None)

    def below(self, tag: str) -> Iterator[Node]:
        """Go through all elements below this one that have a name, written in any case."""
        nodes = deque(self.children)
        while nodes:
            node = nodes.popleft()
            if node.tag.lower() == tag:
                yield node
            nodes += node.children

    def value(self, tag: str) -> str:
        """Return the text of a direct child, stripped; empty if there is none."""
        node = self.child(tag)
        return "" if node is None else node.text.strip()


def parse(content: bytes) -> Node:
    """Parse an annotation.

    Raises:
        XmlError: if it is not valid, or not an annotation.

    """
    parser = expat.ParserCreate("utf-8")  # whatever the file declares: it is decoded before
    stack = [Node("", 0)]

    def start(tag: str, _: dict[str, str]) -> None:
        node = Node(tag, parser.CurrentLineNumber)
        stack[-1].children.append(node)
        stack.append(node)

    def text(content: str) -> None:
        stack[-1].text += content

    def entity(name: str, *_: object) -> None:
        raise XmlError(f"declares an entity, {name}, which no annotation needs", parser.CurrentLineNumber)

    def skipped(name: str, _: bool) -> None:
        raise XmlError(f"uses an unknown entity, &{name};: write the character itself", parser.CurrentLineNumber)

    parser.StartElementHandler, parser.CharacterDataHandler = start, text
    parser.EndElementHandler = lambda _: stack.pop()
    parser.EntityDeclHandler = entity  # entities within entities would grow without end
    parser.SkippedEntityHandler = skipped  # where a DTD is named, an unknown one is no error, and names would lose it
    parser.buffer_text = True
    try:
        parser.Parse(_decode(content).encode(errors="surrogatepass"), True)
    except expat.ExpatError as error:
        raise XmlError(f"not valid XML: {error}", error.lineno) from None
    tree = stack[0].children[0]
    if tree.tag != "annotation":
        raise XmlError(f"expected <annotation>, got <{tree.tag}>", tree.line)
    return tree


def _decode(content: bytes) -> str:
    """Decode a file by its byte order mark, else as it declares, else as UTF-8.

    Raises:
        XmlError: if it holds something else.

    """
    encoding, declared = _encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeError as error:
        line = content.count(b"\n", 0, error.start) + 1 if isinstance(error, UnicodeDecodeError) else None
        which = f"declares encoding {declared!r}, but" if declared else "declares no encoding, and"
        raise XmlError(f"{which} is not {encoding}: declare the true encoding, or save it as UTF-8", line) from None


def _encoding(content: bytes) -> tuple[str, str]:
    """Return the encoding to decode by, and the one declared; names of no encoding, such as `ansi`, mean UTF-8."""
    match = DECLARED.match(content)
    declared = "" if match is None else match[1].decode("ascii", "replace").strip()
    for mark, encoding in (MARKS | WIDE).items():
        if content.startswith(mark):
            return encoding, declared
    try:
        name = codecs.lookup(declared).name if declared else "utf-8"
        # Refuses codecs that are not of text, and those of wide characters: the declaration is in single bytes.
        b"<".decode(name)
    except (LookupError, ValueError):
        name = "utf-8"
    return WIDER.get(name, name), declared
