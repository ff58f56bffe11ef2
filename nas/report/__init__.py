"""One HTML page on what a run folder holds, and its front as a picture."""

from ortnas.nas.report.page import write_report
from ortnas.nas.report.picture import write_front_png
from ortnas.nas.report.record import ReportError

__all__ = ["ReportError", "write_front_png", "write_report"]
