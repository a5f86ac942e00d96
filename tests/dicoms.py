"""DICOM files made for the tests: one picture, and a series of slices."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from medgemma_app.inputs.images import load_image

ROWS, COLUMNS = 80, 96
COUNTER = count(1)
STORED = np.linspace(0, 4095, ROWS * COLUMNS).reshape(ROWS, COLUMNS).astype(np.uint16)
SECRETS = {"PatientName": "Doe^Jane", "PatientID": "MRN12345", "PatientBirthDate": "19700203", "ReferringPhysicianName": "House^Gregory"}


def made(pixels: np.ndarray = STORED, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> FileDataset:
    """A DICOM image of ``pixels`` (grey or RGB), with further elements."""
    ds = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = UID(f"1.2.3.{next(COUNTER)}")
    ds.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = 12 if pixels.dtype == np.uint16 else ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    for keyword, value in (SECRETS | elements).items():
        setattr(ds, keyword, value)
    if "PixelData" not in ds and "FloatPixelData" not in ds:
        ds.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")).tobytes()
        ds["PixelData"].VR = "OW"
    return ds


def written(folder: Path, ds: FileDataset, name: str = "scan.dcm") -> Path:
    ds.save_as(folder / name, enforce_file_format=True)
    return folder / name


def placed(height: float, series: str = "1.2") -> dict[str, Any]:
    """What says where a slice lies, in mm, and of which series it is."""
    return {"ImagePositionPatient": [0, 0, height], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SeriesInstanceUID": series}


def shown(path: Path, **options: Any) -> np.ndarray:
    """The grey levels of the picture that the model sees, without its padding."""
    return np.asarray(load_image(path, pad=False, **options).convert("L")).astype(int)


def lut(first: int, bits: int, entries: np.ndarray) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.LUTData = entries.astype("<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    item.ModalityLUTType = "US"
    return item


def a_series(folder: Path, slices: int = 12, **elements: Any) -> Path:
    """Slices 2 mm apart, in files whose names do not give their order; slice k shows a bar at row 4 k + 4."""
    for k in range(slices):
        hu = np.full((ROWS, COLUMNS), -1000, np.int16)
        hu[10:70, 10:80] = 40
        hu[4 * k % 60 + 4 : 4 * k % 60 + 8, 20:40] = 300
        place = placed(-30 + 2 * k, "1.2.3.4") | {"InstanceNumber": slices - k}
        values = {"Modality": "CT", "SeriesNumber": 3, "RescaleSlope": 1, "RescaleIntercept": -1024} | place | elements
        written(folder, made(hu + 1024, **values), f"{(k * 7) % slices:03}")
    return folder
