"""``python verify.pyz``: what ``ortnas verify`` does, where ortnas is not installed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from ortnas.bench.session import RUNTIMES
from ortnas.export.package.throughput import LoadRow, drive
from ortnas.export.package.verify import EXIT_STATUS, Check, describe_outcome, to_json, verdict_of, verify
from ortnas.nas.failures import OrtnasError

_FAILED, _INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status as of ``ortnas verify``: 0 keeps, 1 breaks, 3 cannot tell, 2 for wrong options."""
    options = _parser().parse_args(arguments)
    try:
        return _check(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except (OrtnasError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _FAILED


def _check(options: argparse.Namespace) -> int:
    checks = verify(options.package, options.runtime)
    verdict = verdict_of(checks)
    stream = sys.stderr if options.as_json else sys.stdout
    _show_checks(checks, stream)
    is_driven = options.load and verdict != "breaks"
    load = drive(options.package, options.concurrency, options.seconds, options.sessions) if is_driven else []
    if load:
        _show_load(load, stream)
    if options.as_json:
        print(json.dumps(to_json(checks, [row.to_json() for row in load] if options.load else None)))
    return EXIT_STATUS[verdict]


def _show_checks(checks: Sequence[Check], stream: TextIO) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.name:{width}}  {check.state:7}  {check.detail}", file=stream)
    print(f"\n{describe_outcome(checks)}", file=stream)


def _show_load(rows: Sequence[LoadRow], stream: TextIO) -> None:
    print("\nat a time  requests a second   p50 ms   p95 ms   p99 ms", file=stream)
    for row in rows:
        figures = f"{row.p50_ms:7.2f}  {row.p95_ms:7.2f}  {row.p99_ms:7.2f}"
        print(f"{row.concurrency:9}  {row.throughput:17.1f}  {figures}", file=stream)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="verify.pyz", description="Check the package that this file lies in, or another: files, speed, score."
    )
    # In sys.argv the archive itself comes first.
    beside = Path(sys.argv[0]).resolve().parent
    parser.add_argument("package", type=Path, nargs="?", default=beside, help="a package folder; this one by default")
    parser.add_argument("--runtime", choices=RUNTIMES, help="run it with another runtime than it was timed with")
    parser.add_argument("--load", action="store_true", help="drive it with concurrent requests, too")
    parser.add_argument(
        "--concurrency", type=int, nargs="+", default=(1, 2, 4, 8), help="with --load: requests at a time"
    )
    parser.add_argument("--sessions", type=int, default=1, help="with --load: sessions that share the requests")
    parser.add_argument("--seconds", type=float, default=5.0, help="with --load: how long each concurrency is driven")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the checks as JSON")
    return parser
