"""The command line as a process of its own, on the small data set instead of MNIST."""

import torch

import small
from lvlm_va.cli import main as cli
from lvlm_va.project import inputs as project


def main() -> None:
    """`lvlm-va` with the arguments of this process."""
    torch.set_num_threads(1)
    project.load_splits = lambda config, *, log: small.splits()
    cli.main()


if __name__ == "__main__":
    main()
