"""The keys ``data.source``, one source, or several with weights, and ``data.label``, one column, or several."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from ortnas.nas.run.configuration_values import Section
from ortnas.nas.wording import shown

_MOST_SOURCES = 100
_MOST_COLUMNS = 10_000


class WeightedSource(Section):
    """One of several sources. ``weight``: its share of the training batches, to the others' weights. ``text`` and
    ``pair`` name the columns of a further source's table."""

    source: str
    weight: float = Field(1.0, gt=0, le=1e6)
    text: str | None = None
    pair: str | None = None

    @model_validator(mode="after")
    def _has_text(self) -> WeightedSource:
        if self.pair is not None and self.text is None:
            raise ValueError(
                f"{shown(self.source)}: pair names the second column of a pair; name the first one as text"
            )
        return self


def _with_weights(value: Any) -> Any:
    """A name in a list stands for a source of weight 1."""
    if not isinstance(value, list | tuple):
        return value
    if not 1 <= len(value) <= _MOST_SOURCES:
        raise ValueError(f"the list has {len(value)} sources; 1 to {_MOST_SOURCES} are possible")
    return [{"source": entry} if isinstance(entry, str) else entry for entry in value]


def _each_once(source: str | tuple[WeightedSource, ...]) -> str | tuple[WeightedSource, ...]:
    if isinstance(source, str):
        return source
    names = [weighted.source for weighted in source]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{shown(repeated[0])} is named twice; name it once, with a larger weight")
    if source[0].text is not None:
        raise ValueError("the first source's columns are named by data.text and data.pair, not in the list")
    return source


def _kind(value: Any) -> str:
    return _SEVERAL if isinstance(value, list | tuple) else _ONE


# Messages leave out what looks like a type with parameters.
_ONE, _SEVERAL = "source[one]", "source[several]"
Source = Annotated[
    Annotated[str, Tag(_ONE)] | Annotated[tuple[WeightedSource, ...], Tag(_SEVERAL)],
    Discriminator(_kind),
    BeforeValidator(_with_weights),
    AfterValidator(_each_once),
]


def _some_columns(label: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(label, str):
        return label
    if not 1 <= len(label) <= _MOST_COLUMNS:
        raise ValueError(f"the list has {len(label)} columns; 1 to {_MOST_COLUMNS} are possible")
    if repeated := [column for column in label if label.count(column) > 1]:
        raise ValueError(f"the column {shown(repeated[0])} is named twice")
    return label


def _kind_of_label(value: Any) -> str:
    return _COLUMNS if isinstance(value, list | tuple) else _COLUMN


_COLUMN, _COLUMNS = "label[one]", "label[several]"
# Several columns: one of 0 and 1 for each label.
LabelColumns = Annotated[
    Annotated[str, Tag(_COLUMN)] | Annotated[tuple[str, ...], Tag(_COLUMNS)],
    Discriminator(_kind_of_label),
    AfterValidator(_some_columns),
]
