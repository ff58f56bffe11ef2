"""Texts that stand in where nobody gave any: short and long, of several domains and languages."""

from __future__ import annotations

_SENTENCES = (
    "The train to the coast leaves at half past seven and is rarely late.",
    "How do I reset the password of an account that I no longer use?",
    "I ordered two of these lamps in March, and both of them broke within a week.",
    "A wonderful film with a slow start, a strong middle and an ending that nobody forgets.",
    "Rainfall in the valley was 14.7 mm on Tuesday, the highest value since 1998.",
    "She said nothing, closed the door behind her and walked down to the river.",
    "The court dismissed the appeal because the notice had not been served in time.",
    "Patients with chronic pain received 20 mg daily for twelve weeks.",
    "Quarterly revenue rose by 3.2 percent to $1.4 billion, below what analysts had expected.",
    "def mean(values): return sum(values) / len(values)",
    "ERROR 2026-03-01 12:04:55 worker-7: connection reset by peer, retrying in 30 s",
    "Is there a vegetarian restaurant near the central station that is open on Sundays?",
    "Water boils at a lower temperature on a mountain, since the pressure of the air is lower.",
    "Terrible service. We waited for an hour and the soup was cold!",
    "The committee will publish its report on renewable energy next autumn.",
    "Mozart wrote the overture in a single night, or so the story goes.",
    "Please find attached the invoice for order no. A-2291/4 and confirm its receipt.",
    "ok thanks",
    "Two proteins bind to the receptor, of which only one activates the pathway.",
    "The bridge, built in 1931 of steel and granite, carries 40,000 cars a day.",
    "What is the difference between a lease and a licence?",
    "Visit https://example.org/help or write to help@example.org before Friday.",
    "He scored twice in the last five minutes and was carried off the field.",
    "Cut the onions, fry them gently in butter, then add flour, milk and nutmeg.",
    "Der Vertrag endet mit Ablauf des Jahres, sofern ihn niemand verlängert.",
    "La bibliothèque reste ouverte jusqu'à vingt heures pendant les examens.",
    "El precio incluye el desayuno, pero no el traslado al aeropuerto.",
    "Il museo è chiuso il lunedì e nei giorni festivi.",
    "Поезд прибывает на третий путь через десять минут.",
    "会议改到星期三下午三点举行。",
    "お支払いはクレジットカードまたは銀行振込でお願いします。",
    "يصل القطار في الساعة السابعة مساء.",
)
# So many sentences, one after the other, are a paragraph.
_PARAGRAPH = 8

STAND_IN_TEXTS = (
    *_SENTENCES,
    *(" ".join(_SENTENCES[start : start + _PARAGRAPH]) for start in range(0, len(_SENTENCES), _PARAGRAPH)),
)
