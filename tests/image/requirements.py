"""Print what the image installs, one requirement a line: the dependencies of the package and of its extra ``kube``."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).resolve().parent.parent.parent / "pyproject.toml").read_text())["project"]
sys.stdout.write("\n".join([*project["dependencies"], *project["optional-dependencies"]["kube"]]) + "\n")
