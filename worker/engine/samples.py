"""Texts that a machine is measured with: sentences of several languages, paragraphs and pages made of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

_SENTENCES = (
    "The ferry leaves the harbour at dawn, whatever the weather.",
    "Bread.",
    "Where can I renew my passport?",
    "Copper conducts heat far better than steel does.",
    "She closed the ledger, put out the lamp and walked home along the canal.",
    "error 404: page not found",
    "In 1869 the railway reached the coast, and within ten years the village had become a town of 12,400 people.",
    "cheap flights oslo lisbon june",
    "A good editor removes words; a great one removes chapters.",
    "The committee will vote on the amended budget next Thursday, after the public hearing.",
    "def area(radius): return 3.14159 * radius ** 2",
    "Nobody had told the orchestra that the conductor was ill.",
    "Mix the flour with a pinch of salt, add two eggs and 250 ml of milk, and let the batter rest for half an hour.",
    "The patient reported mild dizziness, which passed within minutes of standing up.",
    "Glaciers carve valleys so slowly that no one generation sees them move.",
    "To whom it may concern: the tenant has given notice as of 31 March.",
    "Why do cats purr?",
    "Interest rates were left unchanged at 2.75 %, as most analysts had expected.",
    "Beyond the orchard the path forks: left to the mill, right to the chapel on the hill.",
    "Reset the router by holding the button for ten seconds, then wait until the green light stops blinking.",
    "He laughed so hard that tea came out of his nose :-)",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "The striker missed two penalties, and still his team won 4-3.",
    "An old saying holds that the river never asks the rain for permission.",
    "Der Zug nach Leipzig fährt heute ausnahmsweise von Gleis 9 ab.",
    "Les élèves ont planté trente chênes derrière l'école.",
    "El taller cierra a las dos y vuelve a abrir a las cinco.",
    "В горах уже выпал первый снег, но дороги пока открыты.",
    "كان السوق مزدحما بالناس في صباح العيد.",
    "老磨坊的水车在春天又转了起来。",
    "请问去火车站怎么走？",
    "因为昨天夜里下了大雨，山下的小路今天早上还很滑，孩子们只好绕远路去上学。",
    "这家面馆的老板每天清晨四点起床揉面。",
    "朝の市場では、とれたての魚がすぐに売り切れる。",
    "図書館は月曜日にお休みです。",
    "할머니는 겨울마다 김치를 넉넉히 담그신다.",
)

#: Sentences of a paragraph, and how many places later the next one begins.
_PARAGRAPH, _STEP = 5, 4

#: Copies of all sentences that make a page longer than any text is read here.
_PAGE = 4


def sample_texts() -> list[list[str]]:
    """Return the texts that vectors are compared on: sentences, paragraphs, pages longer than any text is read here."""
    spaced, unspaced = _SENTENCES[:29], _SENTENCES[29:35]
    paragraphs = [
        " ".join(_SENTENCES[first : first + _PARAGRAPH]) for first in range(0, len(_SENTENCES) - _PARAGRAPH + 1, _STEP)
    ]
    return [list(_SENTENCES), paragraphs, [" ".join(spaced * _PAGE), "".join(unspaced * _PAGE)]]


def many_texts(count: int) -> list[str]:
    """Return texts that speed is measured on, no two alike: sentences, and paragraphs of two to nine of them.

    Args:
        count: How many.
    """
    return list(islice(_endless(), count))


def _endless() -> Iterator[str]:
    number = 0
    while True:
        first, length = number * 5 % len(_SENTENCES), (1, 2, 1, 4, 1, 9)[number % 6]
        sentences = (_SENTENCES[(first + place) % len(_SENTENCES)] for place in range(length))
        yield f"{number} {' '.join(sentences)}"
        number += 1
