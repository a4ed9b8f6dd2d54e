"""The command line."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from snmf import __version__, factorize


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the return value is the exit code."""
    parser = argparse.ArgumentParser(prog="snmf", description="Semi-nonnegative factorization.")
    parser.add_argument("--version", action="version", version=f"snmf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("demo", help="factorise the handwritten digits of scikit-learn")
    command.add_argument("-k", "--components", type=_positive, default=16, help="default: 16")
    command.add_argument("-o", "--output", type=Path, default=Path("snmf-demo.npz"))
    options = parser.parse_args(arguments)
    try:
        print(demo(options.components, options.output))
    except OSError as error:
        print(f"snmf: {error}", file=sys.stderr)
        return 1
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number; got {text!r}")
    return int(text)


def demo(n_components: int, output: Path) -> str:
    """Factorise the centred digits, save W and H, and say how it went."""
    from sklearn.datasets import load_digits

    X = load_digits().data
    X = X - X.mean(axis=0)
    k = n_components
    with output.open("wb"):  # or say now that it cannot be written
        pass
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always", ConvergenceWarning)
        result = factorize(X, k, random_state=0)
    seconds = time.perf_counter() - began
    norm = np.linalg.norm(X)
    bound = np.linalg.norm(np.linalg.svd(X, compute_uv=False)[k:]) / norm
    with output.open("wb") as file:
        np.savez(file, W=result.W, H=result.H)
    return "\n".join(
        [
            f"Handwritten digits, centred: {X.shape[0]} images of {X.shape[1]} pixels",
            f"X ≈ W H with {k} components: W {result.W.shape}, ≥ 0, and H {result.H.shape}",
            f"relative error   {result.error / norm:.4f}",
            f"SVD bound        {bound:.4f}   (no factorization of rank {k} is below)",
            f"iterations       {result.n_iter} in {seconds:.2f} s",
            f"stopped because  {result.reason}",
            f"saved            {output}   (W, H; numpy.load reads it)",
            *(f"note             {complaint.message}" for complaint in complaints),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
