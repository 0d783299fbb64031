"""What this program is made of and whom it talks to: hashes of the weights, the bill of materials, builds, sockets."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from commands import run

from revisage.models import hashes
from revisage.models.folder import EMBEDDED
from revisage.pipeline.demo import RATE, camera, stage, tone
from revisage.pipeline.errors import ModelError
from revisage.pipeline.media import write_film
from revisage.pipeline.sbom import bill_of_materials

ROOT = Path(__file__).parents[1]


# -- weights -----------------------------------------------------------------------------------------------------------


def test_the_embedded_weights_are_those_on_the_list() -> None:
    """Whoever changes them on purpose runs: python -m revisage.models.hashes"""
    hashes.check.cache_clear()
    hashes.check(hashes.WEIGHTS)
    assert {Path(name).suffix for name in hashes.listed()} == {".json", ".safetensors", ".onnx"}
    hashes.check(ROOT)  # elsewhere: not its business


@pytest.mark.parametrize("how", ["changed", "missing", "added"])
def test_weights_that_are_not_of_this_release_are_refused(tmp_path: Path, how: str) -> None:
    root = tmp_path / "weights"
    (root / "m").mkdir(parents=True)
    (root / "m" / "a.safetensors").write_bytes(b"weights")
    (root / "m" / "b.json").write_bytes(b"{}")
    hashes.write(root)
    hashes.check(root / "m", root)
    hashes.check.cache_clear()
    if how == "changed":
        (root / "m" / "a.safetensors").write_bytes(b"weightz")
    elif how == "missing":
        (root / "m" / "b.json").unlink()
    else:
        (root / "m" / "c.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match="not the file of this release"):
        hashes.check(root / "m", root)
    (root / "SHA256SUMS").unlink()
    with pytest.raises(ModelError, match="list of the"):
        hashes.check(root / "m", root)


def test_loading_a_model_compares_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from revisage.models.cast import Cast
    from revisage.models.folder import read_spec
    from revisage.models.landmarks import load_net

    asked = []
    monkeypatch.setattr(hashes, "check", asked.append)
    read_spec(EMBEDDED)
    load_net()
    Cast.load()
    assert asked == [EMBEDDED, hashes.WEIGHTS / "landmarks", EMBEDDED / "cast"]


# -- the bill of materials ---------------------------------------------------------------------------------------------


def test_the_bill_names_every_package_and_every_weight(tmp_path: Path) -> None:
    assert run("sbom", "-o", tmp_path / "s.json").exit_code == 0
    told = json.loads((tmp_path / "s.json").read_text())
    assert (told["bomFormat"], told["specVersion"], told["metadata"]["component"]["name"]) == (
        "CycloneDX", "1.6", "revisage")  # fmt: skip
    names = {c["name"] for c in told["components"]}
    assert names >= {"torch", "cryptography", "pyrage", "av", "cffi", "numpy"}  # cffi: needed by cryptography alone
    assert not names & {"pytest", "hypothesis", "mypy"}
    weights = {c["name"]: c["hashes"][0]["content"] for c in told["components"] if "hashes" in c}
    assert weights == hashes.listed()
    refs = [c["bom-ref"] for c in told["components"]] + [told["metadata"]["component"]["bom-ref"]]
    assert len(set(refs)) == len(refs)
    for edge in told["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= set(refs)
    assert told == bill_of_materials()  # the same installation, the same bytes
    assert json.loads(run("sbom").stdout) == told
    assert run("sbom", "-o", tmp_path / "s.json").exit_code == 1


# -- releases ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    """From two folders, with the date of the release: what `make release` does."""
    pytest.importorskip("setuptools", reason="the build backend is not installed")
    names = ("cli.py", "models", "pipeline", "trackers", "pyproject.toml", "README.md", "LICENSE")
    made = []
    for number in range(2):
        source = tmp_path / f"source{number}"
        source.mkdir()
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / name)
        build = ["pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", f"{tmp_path}/{number}"]
        dated = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        words = [sys.executable, "-m", *build, str(source)]
        done = subprocess.run(words, env=dated, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (wheel,) = (tmp_path / f"{number}").glob("*.whl")
        made.append(wheel.read_bytes())
    assert made[0] == made[1]


# -- the network -------------------------------------------------------------------------------------------------------

# A seccomp filter that kills the process, and all it starts, where it connects, sends to an address, or listens.
# Sockets alone are no sign: a library finds out whether there is IPv6 by opening one.
CAGE = """
import ctypes, platform, struct, sys
MACHINE, *CALLS = {
    "x86_64": (0xC000003E, 42, 44, 46, 50, 307),  # connect, sendto, sendmsg, listen, sendmmsg
    "aarch64": (0xC00000B7, 203, 206, 211, 201, 269),
}[platform.machine()]
def op(code, yes, no, k):
    return struct.pack("HBBI", code, yes, no, k)
program = op(0x20, 0, 0, 4) + op(0x15, 0, len(CALLS) + 1, MACHINE) + op(0x20, 0, 0, 0)
program += b"".join(op(0x15, len(CALLS) - i, 0, call) for i, call in enumerate(CALLS))
program += op(0x06, 0, 0, 0x7FFF0000) + op(0x06, 0, 0, 0x80000000)  # allow, or kill the process
class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
libc, buffer = ctypes.CDLL(None), ctypes.create_string_buffer(program)
filter = ctypes.byref(Program(len(program) // 8, ctypes.addressof(buffer)))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter, 0, 0):
    sys.exit(77)
"""
GO = f"""{CAGE}
from revisage.cli import main
if __name__ == "__main__":
    main()
"""

caged = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="seccomp is Linux's"
)


def _caged(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    named = {
        "HOME": "/nowhere",
        "LOGNAME": "somebody",
        **os.environ,
    }  # or it asks the system, over a local socket
    arguments = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(arguments, env=named, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this system lets no process cage itself")
    return done


@caged
@pytest.mark.parametrize("reach", ["connect", "sendto"])
def test_the_cage_kills_at_a_connection(reach: str) -> None:
    said = "import socket; c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); print('open', flush=True); "
    go = {"connect": "c.connect(('127.0.0.1', 9))", "sendto": "c.sendto(b'x', ('127.0.0.1', 9))"}
    done = _caged(CAGE + said + go[reach])
    assert (done.stdout, done.returncode) == ("open\n", -31)  # SIGSYS


@caged
@pytest.mark.slow
def test_no_command_opens_a_connection(tmp_path: Path) -> None:
    """From the key to the way back, the networks and a batch's processes included."""
    film = tmp_path / "in" / "f.mp4"
    film.parent.mkdir()
    write_film(film, camera(stage(), 3), RATE, tone(Fraction(3) / RATE))
    key, out = tmp_path / "k", tmp_path / "o.mp4"
    lines: list[list[object]] = [
        ["keygen", "-o", key],
        ["doctor"],
        ["models", "list"],
        ["analyze", film, "-o", tmp_path / "p.json"],
        ["anonymize", film, "-o", out, "--key", key, "--steps", 1, "--no-verify"],
        ["inspect", out, "--key", key],
        ["verify", out, "--original", film, "--key", key, "--quick", "--recognizer", "none"],
        ["grant", out, "--key", key, "--track", 1, "-o", tmp_path / "t"],
        ["recover", out, "-o", tmp_path / "b.mp4", "--key", tmp_path / "t"],
        ["batch", tmp_path / "in", "-o", tmp_path / "all", "--key", key, "--method", "solid"],
        ["sbom"],
    ]
    for words in lines:
        done = _caged(GO, *words)
        assert done.returncode in (0, 3), (words, done.returncode, done.stderr)
    assert (tmp_path / "b.mp4").exists()
