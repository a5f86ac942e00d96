"""What reading costs on top of decoding, whether any damaged file hangs or crashes it, and whether every word of real dialogues arrives.

    python tests/tools/measure_inputs.py [--files 10000] [--corpora FOLDER]

CPU times are the smallest of several taken in turn in one run; memory is the peak of a process of its own. FOLDER holds
``aci-bench*.jsonl`` with a ``dialogue`` of lines that begin with "[speaker]".
"""

from __future__ import annotations

import argparse
import base64
import faulthandler
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from dicoms import lut, made
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.pixels import pixel_array
from pydicom.uid import JPEG2000Lossless, RLELossless
from small_notes import small_notes

from medgemma_app.errors import InputError
from medgemma_app.inputs.images import load_image
from medgemma_app.inputs.notes import load_notes
from medgemma_app.inputs.series import read_series
from medgemma_app.inputs.studies import find_studies
from medgemma_app.prompts import soap_prompt

ROWS, COLUMNS = 5000, 4000
ROUNDS = 7
SEED = 11
SLOWEST = 20  # seconds a damaged file may take before the run counts as hung
RASTERS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000")
TESTDATA = (
    "MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "SC_rgb_jpeg_gdcm.dcm",
    "image_dfl.dcm", "JPGExtended.dcm", "examples_palette.dcm", "SC_rgb_small_odd.dcm", "CT_small.dcm",
)  # fmt: skip


READERS: dict[str, Callable[[Path], Any]] = {
    "picture": lambda path: load_image(path, frame=1),
    "series": lambda path: read_series(path.parent),
    "index": lambda path: find_studies([str(path)]),
    "notes": load_notes,
}


def main() -> None:
    """Print what the arguments ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--corpora", type=Path)
    parser.add_argument("--peak", nargs=2, metavar=("HOW", "FILE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peak:
        print(_peak_of(*chosen.peak))
        return
    with tempfile.TemporaryDirectory() as folder:
        _costs(Path(folder))
        _fuzz(Path(folder), chosen.files)
        if chosen.corpora:
            _dialogues(chosen.corpora, Path(folder))


def radiograph() -> np.ndarray:
    """12 bits in 16, smooth shapes and detector noise, with an unexposed border."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS].astype(np.float32)
    values = 1800 + 1200 * np.sin(x / 900) * np.cos(y / 1100) + 300 * np.sin(x / 60) * np.sin(y / 45)
    values += np.random.default_rng(SEED).normal(0, 12, values.shape)
    values[:, :200] = 0
    return values.clip(0, 4095).astype(np.uint16)


def _radiographs(folder: Path) -> Iterator[Path]:
    values = radiograph()
    picture = Image.fromarray(values)
    for name, options in (("scan.png", {}), ("deflated.tif", {"compression": "tiff_adobe_deflate"}), ("plain.tif", {})):
        picture.save(folder / name, **options)
        yield folder / name
    for name, syntax in (("plain.dcm", None), ("rle.dcm", RLELossless), ("jpeg2000.dcm", JPEG2000Lossless)):
        ds = made(values, Modality="DX", WindowCenter=2000, WindowWidth=3000, PhotometricInterpretation="MONOCHROME1")
        if syntax:
            ds.compress(syntax)
        ds.save_as(folder / name, enforce_file_format=True)
        yield folder / name


def _decode(path: Path) -> None:
    if path.suffix == ".dcm":
        pixel_array(pydicom.dcmread(path))
        return
    with Image.open(path) as picture:
        np.asarray(picture)[0] if path.name == "plain.tif" else picture.load()  # a plain TIFF is mapped into memory, not read


def _costs(folder: Path) -> None:
    print(f"A radiograph of {COLUMNS} x {ROWS} pixels, 12 bits in 16, {2 * ROWS * COLUMNS / 1e6:.0f} MB when decoded:\n")
    print("| | decoding | loading | ratio | on top | peak of decoding, of loading |\n|---|---|---|---|---|---|")
    for path in _radiographs(folder):
        times = [(_seconds(_decode, path), _seconds(load_image, path)) for _ in range(ROUNDS)]
        decoding, loading = (1000 * min(column) for column in zip(*times, strict=True))
        peaks = [_measured_peak(how, path) for how in ("decode", "load")]
        ratio, more = loading / max(decoding, 1e-3), loading - decoding
        print(f"| {path.name} | {decoding:.0f} ms | {loading:.0f} ms | {ratio:.2f} | {more:.0f} ms | {peaks[0]:.0f}, {peaks[1]:.0f} MB |")


def _seconds(read: Callable[[Path], Any], path: Path) -> float:
    """CPU time of one thread: on a busy machine the clock on the wall tells of others."""
    begun = time.process_time()
    read(path)
    return time.process_time() - begun


def _measured_peak(how: str, path: Path) -> float:
    command = [sys.executable, __file__, "--peak", how, str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _peak_of(how: str, path: str) -> float:
    """Megabytes above what the process had after reading a small file of the kind."""
    small = np.linspace(0, 4095, 100 * 100).reshape(100, 100).astype(np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / Path(path).name
        if tiny.suffix == ".dcm":
            made(small, WindowCenter=2000, WindowWidth=3000).save_as(tiny, enforce_file_format=True)
        else:
            Image.fromarray(small).save(tiny)
        load_image(tiny)
    before = _peak_bytes()
    (_decode if how == "decode" else load_image)(Path(path))
    return (_peak_bytes() - before) / 1e6


def _peak_bytes() -> int:
    """Of this process alone: on Linux getrusage also counts what the parent had."""
    import resource

    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status.read_text())[0])


def _fuzz(folder: Path, files: int) -> None:
    """Mutated files of every kind; one that takes too long ends the run with a traceback, and so does any other exception."""
    seeds, rng, outcomes, slowest = list(_seeds()), random.Random(SEED), Counter[str](), 0.0
    (folder / "series").mkdir()
    for number in range(files):
        kind, content = seeds[number % len(seeds)]
        path = folder / ("series/slice" if kind == "series" else "damaged")
        path.write_bytes(_mutated(content, rng))
        faulthandler.dump_traceback_later(SLOWEST, exit=True)
        begun = time.perf_counter()
        try:
            READERS[kind](path)
            outcomes["read"] += 1
        except InputError as error:
            assert "\n" not in str(error) and str(folder) not in str(error)
            outcomes["one clear line"] += 1
        faulthandler.cancel_dump_traceback_later()
        slowest = max(slowest, time.perf_counter() - begun)
    told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    print(f"{files} mutated files of {len(seeds)} kinds: {told}; the slowest took {slowest:.1f} s")


def _seeds() -> Iterator[tuple[str, bytes]]:
    deep = np.linspace(0, 4095, 96 * 80).reshape(80, 96).astype(np.uint16)
    grey = Image.fromarray((deep // 16).astype(np.uint8))
    pictures: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (grey, kind, {}) for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000")
    ]
    pictures += [
        (Image.fromarray(deep), "PNG", {}),
        (Image.fromarray(deep), "TIFF", {}),
        (Image.fromarray(deep.astype(np.float32)), "TIFF", {}),
    ]
    pictures += [(grey.convert(mode), "PNG", {}) for mode in ("P", "1", "LA", "RGBA", "RGB")] + [(grey.convert("CMYK"), "JPEG", {})]
    pictures += [(grey.convert("1"), "TIFF", {"compression": kind}) for kind in ("group3", "group4", "packbits")]
    pictures += [(grey, "TIFF", {"compression": kind}) for kind in ("tiff_lzw", "tiff_adobe_deflate", "jpeg")]
    pictures += [(grey, kind, {"save_all": True, "append_images": [grey.rotate(90)]}) for kind in ("GIF", "TIFF", "WEBP", "PNG")]
    yield from (("picture", _encoded(picture, kind, options)) for picture, kind, options in pictures)
    yield from (("picture", Path(str(get_testdata_file(name, download=False))).read_bytes()) for name in TESTDATA)
    placed = made(deep, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024, ImagePositionPatient=[0, 0, 1])
    placed.ImageOrientationPatient, placed.SeriesInstanceUID = [1, 0, 0, 0, 1, 0], "1.2.3.4"
    yield from ((kind, _saved(placed)) for kind in ("picture", "series"))
    yield from (("picture", _saved(ds)) for ds in _dicoms(deep))
    index = made(deep)
    index.file_meta.MediaStorageSOPClassUID, index.DirectoryRecordSequence = "1.2.840.10008.1.3.10", [pydicom.Dataset() for _ in range(3)]
    for record in index.DirectoryRecordSequence:
        record.ReferencedFileID = ["DICOM", "IMAGE"]
    yield "index", _saved(index)
    yield from (("notes", value if isinstance(value, bytes) else json.dumps(value).encode()) for value in small_notes())


def _dicoms(deep: np.ndarray) -> Iterator[pydicom.FileDataset]:
    """Files whose headers ask for much: tables, palettes, padding, shutters, frames, upper bits."""
    curve = (np.linspace(0, 1, 4096) ** 2 * 4095).astype(np.uint16)
    yield made(deep, VOILUTSequence=[lut(0, 16, curve)])
    yield made(deep, ModalityLUTSequence=[lut(0, 16, curve)], Modality="XA")
    yield made(deep, Modality="MR", PixelPaddingValue=0, PixelPaddingRangeLimit=9)
    yield made(deep << 4, HighBit=15, PresentationLUTShape="INVERSE")
    shutter = {"CenterOfCircularShutter": [40, 50], "RadiusOfCircularShutter": 30, "VerticesOfThePolygonalShutter": [9, 9, 9, 80, 70, 40]}
    yield made(
        deep, ShutterShape=["CIRCULAR", "POLYGONAL"], RescaleSlope=0.001, RescaleIntercept=0, WindowCenter=2, WindowWidth=4, **shutter
    )
    for segmented in ("", "Segmented"):
        palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
        words = np.array([0, 1, 0, 1, 127, 32639, 2, 1, 0, 0, 1, 127, 65535], "<u2") if segmented else np.arange(0, 65536, 256, dtype="<u2")
        for colour in ("Red", "Green", "Blue"):
            palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
            palette[f"{segmented}{colour}PaletteColorLookupTableData"] = words.tobytes()
        yield made((deep // 16).astype(np.uint8), **palette)
    groups = [pydicom.Dataset() for _ in range(2)]
    for group in groups:
        group.FrameVOILUTSequence = [pydicom.Dataset()]
        group.FrameVOILUTSequence[0].WindowCenter, group.FrameVOILUTSequence[0].WindowWidth = 2000, 3000
    yield made(deep, NumberOfFrames=2, PixelData=np.stack([deep, deep]).tobytes(), PerFrameFunctionalGroupsSequence=groups)


def _encoded(picture: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _saved(ds: pydicom.FileDataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _mutated(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, mostly near the start where headers are; at times a piece doubled, dropped or cut off."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(min(len(data), rng.choice((64, 600, len(data)))))
        data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, data[place] ^ 1 << rng.randrange(8), rng.randrange(256)))
    first, length = rng.randrange(len(data)), rng.randint(1, 200)
    change = rng.random()
    if change < 0.1:
        data[first:first] = data[first : first + length]
    elif change < 0.2:
        del data[first : first + length]
    elif change < 0.35:
        del data[max(1, first) :]
    return bytes(data)


def _dialogues(folder: Path, scratch: Path) -> None:
    """Every word of real dialogues as a string, an object, turns and a FHIR document."""
    rows = [json.loads(line) for path in sorted(folder.glob("aci-bench*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    lost, path = Counter[str](), scratch / "notes.json"
    for row in rows:
        for form, value in _forms(row["dialogue"]):
            path.write_text(json.dumps(value), "utf-8")
            prompt = soap_prompt(load_notes(path))[0]
            lost[form] += bool(_words(row["dialogue"]) - _words(" ".join(map(str, prompt.parts))))
    print(f"{len(rows)} dialogues; those of which a word does not reach the prompt: {dict(lost)}")


def _forms(dialogue: str) -> Iterator[tuple[str, Any]]:
    begun = dialogue if dialogue.startswith("[") else f"[doctor] {dialogue}"
    turns = re.findall(r"\[(\w+)\]\s*(.*?)(?=\n\[\w+\]|\Z)", begun, re.DOTALL)
    yield "string", dialogue
    yield "object", {"transcript": dialogue, "patientAge": 41}
    yield "turns", [{"speaker": who, "text": said} for who, said in turns]
    yield "turns in an object", {"age": 41, "dialogue": [{"role": who, "content": said} for who, said in turns]}
    attachment = {"contentType": "text/plain", "data": base64.b64encode(dialogue.encode()).decode()}
    document = {"resourceType": "DocumentReference", "content": [{"attachment": attachment}]}
    yield "FHIR", {"resourceType": "Bundle", "entry": [{"resource": document}]}


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text))


if __name__ == "__main__":
    main()
