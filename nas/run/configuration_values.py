"""What the values of a configuration may be, whatever they are about."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ortnas.nas.run.limits import MOST_TOKENS

_MOST_SIZES = 1000
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def _some(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if not 1 <= len(sizes) <= _MOST_SIZES:
        raise ValueError(f"{len(sizes)} entries; 1 to {_MOST_SIZES} are possible")
    return sizes


Size = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
Sizes = Annotated[tuple[Size, ...], AfterValidator(_some)]
Texts = Annotated[tuple[str, ...], Field(max_length=1000)]
Processor = Annotated[int, Field(ge=0, lt=4096)]
LearningRate = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_meant(cls, value: Any, field: ValidationInfo) -> Any:
        """Text is there and can be a name of something; true and false are no numbers."""
        annotation = cls.model_fields[str(field.field_name)].annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            return value  # its own fields are looked at
        parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
        for part in parts:
            if isinstance(part, bool) and annotation is not bool:
                raise ValueError("true and false (in YAML also yes, no, on and off) are no value here; quote text")
            if isinstance(part, str) and not part.strip():
                raise ValueError("empty text; give a value, or leave the key out")
            if isinstance(part, str) and _UNPRINTABLE.search(part):
                raise ValueError("holds a character that is no text, such as a line end or half of a surrogate pair")
        return value
