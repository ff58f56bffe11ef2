"""Whether a run's texts fit the requests that its models take."""

from __future__ import annotations

from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.texts import Texts


def check_lengths(configuration: Configuration, texts: Texts) -> None:
    """Raises ConfigurationError where texts are longer than ``export.shapes``, or shorter without a mask."""
    settings = configuration.export
    if settings.shapes is None:
        return
    sequence = settings.shapes[1]
    if texts.max_length > sequence:
        raise ConfigurationError(
            f"export.shapes: texts have up to {texts.max_length} tokens (data.max_length), and the model takes "
            f"{sequence}; set data.max_length: {sequence}"
        )
    if settings.mask:
        return
    for part in ("calibration", "search", *texts.data.report_parts):
        shortest = int(texts.data.held_out(part).lengths.min())
        if shortest < sequence:
            raise ConfigurationError(
                f"export.mask: false: the {part.replace('_', ' ')} part has texts of {shortest} tokens, which are "
                f"padded to {sequence} (export.shapes), and that needs a mask"
            )
