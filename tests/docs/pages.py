"""The manual's pages as what a reader can try: code blocks, code spans, links and rows of tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/*.md")


@dataclass(frozen=True)
class Piece:
    """A block, span or link with the line on which its page has it; ``kind`` is a block's language."""

    page: str
    line: int
    text: str
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass
class Page:
    """``rows`` holds the code spans of every cell of every row of its tables, and the cells' plain texts."""

    path: Path
    blocks: list[Piece] = field(default_factory=list)
    spans: list[Piece] = field(default_factory=list)
    links: list[Piece] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    rows: list[list[Token]] = field(default_factory=list)


@cache
def read_pages() -> tuple[Page, ...]:
    paths = [path for pattern in _PAGES for path in sorted(ROOT.glob(pattern))]
    return tuple(_read_page(path) for path in paths)


def find_page(name: str) -> Page:
    return next(page for page in read_pages() if page.path.name == name)


def blocks(*kinds: str) -> Iterator[Piece]:
    """Code blocks of these languages on all pages."""
    for page in read_pages():
        yield from (block for block in page.blocks if block.kind in kinds)


def spans() -> Iterator[Piece]:
    for page in read_pages():
        yield from page.spans


def _read_page(path: Path) -> Page:
    page, name = Page(path), path.relative_to(ROOT).as_posix()
    heading, line = False, 0
    for token in MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8")):
        line = token.map[0] + 1 if token.map else line
        if token.type == "fence":
            page.blocks.append(Piece(name, line, token.content, token.info.strip()))
        elif token.type == "heading_open":
            heading = True
        elif token.type == "tr_open":
            page.rows.append([])
        elif token.type == "inline":
            if heading:
                page.anchors.add(_anchor(token.content))
                heading = False
            elif page.rows and token.level > 2:
                page.rows[-1].append(token)
            _read_inline(page, name, line, token)
    return page


def _read_inline(page: Page, name: str, line: int, token: Token) -> None:
    for child in token.children or ():
        if child.type == "code_inline":
            page.spans.append(Piece(name, line, child.content))
        elif child.type == "link_open":
            page.links.append(Piece(name, line, str(child.attrs["href"])))
        elif child.type == "image":
            page.links.append(Piece(name, line, str(child.attrs["src"])))


def _anchor(title: str) -> str:
    """As GitHub and MyST name a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
