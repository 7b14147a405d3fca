"""Unpacks files of a wheel into a folder, completely or not at all.

    unpack.py WHEEL FOLDER STAMP PATTERN[,PATTERN…]|tree|tree:PATTERN[,PATTERN…]

PATTERN selects files, which are put directly into FOLDER. With `tree` all files keep their path in
the wheel, with `tree:PATTERN` those selected. FOLDER is replaced as a whole.
STAMP is written to FOLDER/.stamp last, so a folder with the right stamp is complete.
"""

import fnmatch
import os
import re
import shutil
import sys
import zipfile


def main(wheel, folder, stamp, take):
    partial = folder + ".tmp"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if take == "tree":
                archive.extractall(partial)
            elif take.startswith("tree:"):
                for pattern in take.removeprefix("tree:").split(","):
                    found = fnmatch.filter(names, pattern)
                    if not found:
                        raise SystemExit(f"setup: {os.path.basename(wheel)} has no {pattern}")
                    archive.extractall(partial, found)
            else:
                for pattern in take.split(","):
                    found = fnmatch.filter(names, pattern)
                    if not found:
                        raise SystemExit(f"setup: {os.path.basename(wheel)} has no {pattern}")
                    for name in found:
                        with archive.open(name) as source, open(
                            os.path.join(partial, os.path.basename(name)), "wb"
                        ) as target:
                            shutil.copyfileobj(source, target)
        # Programs open a library by its plain name, so libx.so becomes a link to libx.so.1.2.3.
        for name in os.listdir(partial):
            versioned = re.fullmatch(r"(lib\w+\.so)(\.\d+)+", name)
            if versioned:
                os.symlink(name, os.path.join(partial, versioned.group(1)))
        with open(os.path.join(partial, ".stamp"), "w") as file:
            file.write(stamp + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
