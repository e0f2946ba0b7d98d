"""Build the peers of other makers under ``.peers/``, each in an environment of its own.

Owns the environments that clash with ours (an older SDK, another framework, npm packages, a newer Node.js).
Deliberately uses the standard library only, so that any Python runs it. Invariant: running it twice does nothing the
second time; a change of a pinned version rebuilds only the environment it belongs to; a build that fails leaves the
npm packages as they were.

Usage: ``python tests/peers/build.py [--lock] [name ...]`` where a name is one of mcp1, fastmcp, uv, npm.
``--lock`` writes ``package-lock.json`` anew from ``package.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent.parent / ".peers"
PYTHONS = {"mcp1": "requirements-mcp1.txt", "fastmcp": "requirements-fastmcp.txt", "uv": "requirements-uv.txt"}
NPM = "npm"


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the test peers under .peers/.")
    parser.add_argument("--lock", action="store_true", help="write package-lock.json anew")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join([*PYTHONS, NPM])}; default: all")
    options = parser.parse_args()
    names = options.names or [*PYTHONS, NPM]
    if unknown := set(names) - {*PYTHONS, NPM}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    PEERS.mkdir(exist_ok=True)
    if options.lock:
        lock()
    for name in names:
        if name == NPM:
            build_npm()
        else:
            build_python(name, HERE / PYTHONS[name])
    return 0


def build_python(name: str, requirements: Path) -> None:
    """One virtual environment with the pinned requirements."""
    place = PEERS / name
    stamp = digest(requirements.read_bytes(), sys.version.encode())
    if is_built(place, stamp):
        print(f"{name}: up to date")
        return
    print(f"{name}: building", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    python = place / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)], check=True)
    (place / ".stamp").write_text(stamp)


def build_npm() -> None:
    """The npm packages, Node.js itself among them; no package's install script is run."""
    place = PEERS / NPM
    files = [HERE / "package.json", HERE / "package-lock.json"]
    stamp = digest(*(file.read_bytes() for file in files))
    if is_built(place, stamp):
        print("npm: up to date")
        return
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm: not found on this machine; install Node.js with npm, then run this again")
    print("npm: building", flush=True)
    # Beside the old ones, which may be in use, and put in their place at once; Python's environments cannot be moved.
    new, old = PEERS / f"{NPM}.new", PEERS / f"{NPM}.old"
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir()
    for file in files:
        shutil.copy(file, new)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run([npm, "ci", *quiet], cwd=new, check=True)
    (new / ".stamp").write_text(stamp)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def lock() -> None:
    """Write the lock file, without the addresses that depend on the machine that wrote it."""
    subprocess.run(["npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit"], cwd=HERE, check=True)
    file = HERE / "package-lock.json"
    content = json.loads(file.read_text())
    for package in content["packages"].values():
        for key in ("resolved", "funding"):
            package.pop(key, None)
    file.write_text(json.dumps(content, indent=2) + "\n")


def is_built(place: Path, stamp: str) -> bool:
    file = place / ".stamp"
    return file.is_file() and file.read_text() == stamp


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
