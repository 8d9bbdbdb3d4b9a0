"""How large a compressed frame of a DICOM file says it is.

A codec believes the frame and not the DICOM header: it allocates what the frame claims. Where that is too much, GDCM's
for JPEG-LS ends the process, and so does its codec for JPEG where tables are missing or values have 151 bits. So a
frame is looked at before a codec sees it.
"""

import struct

WITHOUT_CLAIMS = {  # uncompressed in three ways, and RLE
    *("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"),
    "1.2.840.10008.1.2.5",
}
HUFFMAN_TABLE = 0xC4
NO_SIZE = {HUFFMAN_TABLE, 0xC8, 0xCC}  # of JPEG's markers C0 to CF, which else begin a frame's header
JPEG_LS_SIZE = 0xF7
START_OF_SCAN = 0xDA
MOST_BITS = 16  # of a value in JPEG and JPEG-LS


def sound_frames(path: str) -> int:
    """How many frames from the first on claim the size that the DICOM header of a JPEG, JPEG-LS or JPEG 2000 file says.

    Raises whatever pydicom raises where the header cannot be read.
    """
    from pydicom.encaps import generate_frames
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    tags = [Tag(name) for name in ("Rows", "Columns", "NumberOfFrames")]
    with open(path, "rb") as file:
        header = read_partial(file, stop_when=lambda tag, *_: tag >> 16 == 0x7FE0, specific_tags=tags, force=True)
        size = (header.Rows, header.Columns, 1)
        file.seek(12, 1)  # over the tag, the representation and the undefined length of the pixel data
        count = 0
        try:
            for frame in generate_frames(file, number_of_frames=int(header.get("NumberOfFrames") or 1)):
                if set(claims(frame)) != {size}:
                    break
                count += 1
        except Exception:  # pydicom raises anything on a damaged sequence of fragments
            return count
    return count


def claims(frame: bytes) -> list[tuple[int, int, int]]:
    """Rows, columns and channels, as often as the header of a JPEG, JPEG-LS or JPEG 2000 frame says them; nothing where
    the header is damaged.
    """
    if not frame.startswith(b"\xff\xd8"):
        at = frame.find(b"\xff\x4f\xff\x51")  # start of a codestream of JPEG 2000, and of its size
        if at < 0 or len(frame) < at + 42:
            return []
        right, bottom, left, top = struct.unpack_from(">4I", frame, at + 8)
        return [(bottom - top, right - left, struct.unpack_from(">H", frame, at + 40)[0])]
    found: list[tuple[int, int, int]] = []
    tables, at = 0, 2
    while at + 10 <= len(frame) and frame[at] == 0xFF and (marker := frame[at + 1]) != START_OF_SCAN:
        if (0xC0 <= marker <= 0xCF and marker not in NO_SIZE) or marker == JPEG_LS_SIZE:
            bits, *size = struct.unpack_from(">BHHB", frame, at + 4)
            if bits > MOST_BITS:
                return []
            found.append(tuple(size))
        tables += marker in (HUFFMAN_TABLE, JPEG_LS_SIZE)  # JPEG-LS has none
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return found if tables and frame[at : at + 2] == bytes([0xFF, START_OF_SCAN]) else []
