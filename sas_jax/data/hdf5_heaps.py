"""Whether the strings of variable length in an HDF5 file can be read without harm.

They lie in global heaps, and libhdf5 (2.0.0) loops for ever on a damaged one.
"""

import mmap

import h5py


def are_sound(file: h5py.File) -> bool:
    """Whether libhdf5 can walk every global heap of a file to its end.

    A collection is "GCOL", a version of one byte, three bytes, its size, then objects:
    index and count of two bytes each, four bytes, a size, and the content. The size of
    object 0, the free space, covers its own head. (HDF5 file format, III.E.)
    """
    _, width = file.id.get_create_plist().get_sizes()
    head = 8 + width
    with (
        open(file.filename, "rb") as raw,
        mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):

        def number(at: int) -> int:
            return int.from_bytes(content[at : at + width], "little")

        start = content.find(b"GCOL")
        while start >= 0:
            size = number(start + 8)
            if content[start + 4] != 1 or start + size > len(content):
                return False
            at, end = start + -(-(8 + width) // 8) * 8, start + size
            while at + head <= end:
                is_free = content[at : at + 2] == b"\0\0"
                used = number(at + 8)
                step = used if is_free else head + -(-used // 8) * 8
                if step < head or at + step > end:
                    return False
                at += step
            start = content.find(b"GCOL", start + 4)
    return True
