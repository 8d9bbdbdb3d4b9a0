"""DICOM files in compressed syntaxes, which pydicom cannot write by itself."""

from pathlib import Path

import numpy as np
from data.dicom_files import write_slice
from pydicom import uid


def write_compressed(path: Path, hu: np.ndarray, syntax: str, **tags: object) -> Path:
    """`write_slice` in a syntax that GDCM encodes: lossless JPEG, JPEG-LS, JPEG 2000."""
    import gdcm

    names = {
        uid.JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
        uid.JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
        uid.JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
    }
    write_slice(path, hu, **tags)
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(names[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path
