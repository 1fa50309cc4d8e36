"""What the virtual camera has recorded and goes on recording: the committed minute of footage, cut as recorders do.

A segment is the clip's first bytes and a fragment a second, numbered anew. What a player decodes of a file are the
contents of its `mdat` boxes, in their order: these are compared, as pieces are packaged by the server anew.
"""

import datetime
import struct
from pathlib import Path

START = datetime.datetime(2024, 5, 14, 10, tzinfo=datetime.timezone.utc)
TEMPLATE = "%Y-%m-%d_%H-%M-%S-%f.{mp4|ts|mkv}"
TICKS_PER_SECOND = 90_000
CLIP = Path(__file__).parent.parent / "assets/seconds.mp4"


def boxes(data):
    """The top-level boxes that are there in full."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if length < 8 or at + length > len(data):
            return
        yield kind, data[at : at + length]
        at += length


def media(data):
    """The coded frames of a file, without what stands around them."""
    return b"".join(box[8:] for kind, box in boxes(data) if kind == b"mdat")


class Clip:
    def __init__(self):
        found = list(boxes(CLIP.read_bytes()))
        self.first = b"".join(box for kind, box in found if kind in (b"ftyp", b"moov"))
        moofs = [box for kind, box in found if kind == b"moof"]
        mdats = [box for kind, box in found if kind == b"mdat"]
        self.seconds = list(zip(moofs, mdats, strict=True))

    def pieces(self, start, seconds):
        """What a recorder writes of a segment that begins `start` seconds after START: second by second."""
        for position in range(seconds):
            moof, mdat = self.seconds[(start + position) % len(self.seconds)]
            moof = bytearray(moof)
            # Both are full boxes: four bytes of version and flags come before the value.
            struct.pack_into(">I", moof, moof.index(b"mfhd") + 8, position + 1)
            struct.pack_into(">Q", moof, moof.index(b"tfdt") + 8, position * TICKS_PER_SECOND)
            yield (self.first if position == 0 else b"") + bytes(moof) + mdat

    def segment(self, start, seconds):
        return b"".join(self.pieces(start, seconds))

    def media(self, start, seconds):
        """The frames of so many seconds."""
        return b"".join(self.seconds[second % len(self.seconds)][1][8:] for second in range(start, start + seconds))


def time(second):
    return START + datetime.timedelta(seconds=second)


def name(second):
    return time(second).strftime("%Y-%m-%d_%H-%M-%S-%f.mp4")
