"""Mixes two model folders of one training into one: its weights are a weighted mean of theirs.

    python -m revisage.models.train.mix EARLIER LATER --share 0.3 --out DIR

`--share` is the later one's. Weights of one run lie close enough for their mean to be a model as good as either
(Izmailov et al., *Averaging Weights Leads to Wider Optima and Better Generalization*, UAI 2018). All else is the later
one's.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

_WEIGHTS = "diffusion_pytorch_model.safetensors"
PARTS = ("unet", "refiner")


def mix(earlier: Path, later: Path, share: float, out: Path) -> None:
    """Write `out`, in half precision. ValueError: the folders hold networks of different shapes."""
    means = {part: _mean(earlier / part / _WEIGHTS, later / part / _WEIGHTS, share) for part in PARTS}
    shutil.copytree(later, out, dirs_exist_ok=True)
    for part, mean in means.items():
        save_file(mean, out / part / _WEIGHTS, metadata={"format": "pt"})


def _mean(earlier: Path, later: Path, share: float) -> dict[str, Tensor]:
    first, second = load_file(earlier), load_file(later)
    if {k: v.shape for k, v in first.items()} != {k: v.shape for k, v in second.items()}:
        raise ValueError(f"{earlier} and {later} are not of one training: their shapes differ")
    return {name: (first[name].float() * (1 - share) + second[name].float() * share).half() for name in first}


def main(given: Sequence[str] | None = None) -> None:
    """Of the command line, or `given`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("earlier", type=Path, help="a folder that training exported")
    parser.add_argument("later", type=Path, help="another one, of the same training")
    parser.add_argument("--share", type=float, default=0.5, help="of the later one, 0 to 1")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(given)
    mix(args.earlier, args.later, args.share, args.out)


if __name__ == "__main__":
    main()
