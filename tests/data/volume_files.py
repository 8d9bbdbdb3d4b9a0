"""Small MetaImage and NRRD files, written here as ITK and 3D Slicer write them."""

import gzip
import zlib
from pathlib import Path

import numpy as np

META_TYPES = {"int16": "MET_SHORT", "uint16": "MET_USHORT", "uint8": "MET_UCHAR", "float32": "MET_FLOAT"}


def write_meta(path: Path, values: np.ndarray, packed: bool = False, **fields: str) -> Path:
    """`.mha`, or `.mhd` with `.raw` or `.zraw`; values: [x, y, z]. fields: more lines, or others than usual; the steps
    along x, y, z are 1, 2, 3 mm to the left, the back and up unless they say otherwise.
    """
    content = values.tobytes(order="F")
    content = zlib.compress(content) if packed else content
    beside = path.with_suffix(".zraw" if packed else ".raw")
    header = {
        "ObjectType": "Image",
        "NDims": str(values.ndim),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": str(values.dtype.byteorder == ">"),
        "CompressedData": str(packed),
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "1 2 3",
        "DimSize": " ".join(map(str, values.shape)),
        "ElementType": META_TYPES[values.dtype.newbyteorder("=").name],
        **fields,
        "ElementDataFile": fields.get("ElementDataFile", "LOCAL" if path.suffix == ".mha" else beside.name),
    }
    lines = "".join(f"{name} = {value}\n" for name, value in header.items() if value)
    path.write_bytes(lines.encode() + (content if path.suffix == ".mha" else b""))
    if path.suffix == ".mhd":
        beside.write_bytes(content)
    return path


def write_nrrd(path: Path, values: np.ndarray, packed: bool = False, **fields: str) -> Path:
    """`.nrrd`, or `.nhdr` with a file beside it; as `write_meta`. An underscore in a field's name is a blank."""
    content = values.tobytes(order="F")
    content = gzip.compress(content) if packed else content
    beside = path.with_suffix(".raw.gz" if packed else ".raw")
    header = {
        "type": values.dtype.newbyteorder("=").name.replace("float32", "float"),
        "dimension": str(values.ndim),
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, values.shape)),
        "space directions": "(1,0,0) (0,2,0) (0,0,3)",
        "endian": "big" if values.dtype.byteorder == ">" else "little",
        "encoding": "gzip" if packed else "raw",
        "space origin": "(0,0,0)",
        "data file": beside.name if path.suffix == ".nhdr" else "",
    } | {name.replace("_", " "): value for name, value in fields.items()}
    lines = "".join(f"{name}: {value}\n" for name, value in header.items() if value)
    attached = b"" if path.suffix == ".nhdr" else b"\n" + content
    path.write_bytes(b"NRRD0004\n# made here\n" + lines.encode() + attached)
    if path.suffix == ".nhdr":
        beside.write_bytes(content)
    return path
