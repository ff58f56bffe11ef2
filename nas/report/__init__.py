"""One HTML page on what a run folder holds, and its front as a picture."""

from nas.report.page import write_report
from nas.report.picture import write_front_png
from nas.report.record import ReportError

__all__ = ["ReportError", "write_front_png", "write_report"]
