"""What the image installs needs no compiler, on either machine that it is built for."""

import sys
from pathlib import Path
from typing import Final

import pytest
import trio

pytestmark = [pytest.mark.registry, pytest.mark.slow, pytest.mark.timeout(300)]

REQUIREMENTS: Final = Path(__file__).resolve().parent / "requirements.py"
PYTHON: Final = "3.13"
"""That of the image's base."""
MANYLINUX: Final = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux_2_5", "manylinux1")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
async def test_every_package_of_the_image_has_a_wheel(machine: str, tmp_path: Path) -> None:
    """``pip`` resolves all of them for a machine that it need not be on, and installs nothing."""
    found = await trio.run_process([sys.executable, str(REQUIREMENTS)], capture_stdout=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command += ["--only-binary=:all:", "--python-version", PYTHON, "--target", str(tmp_path)]
    command += [f"--platform={one}_{machine}" for one in MANYLINUX]
    done = await trio.run_process(
        [*command, *found.stdout.decode().split()], capture_stdout=True, capture_stderr=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
