"""`make bench`: each part against what a user would pick instead, in the same run; written to results/.

python -m bench                   all of them
python -m bench segmentation      one of them
python -m bench scale ...         from a thousand images to a million, see `bench.scale`
"""

import json
import platform
import sys
from pathlib import Path

import torch

from bench import attribution, critic, scale, segmentation, studio, training

BENCHES = {
    "attribution": attribution.main,
    "critic": critic.main,
    "segmentation": segmentation.main,
    "studio": studio.main,
    "training": training.main,
}
RESULTS = Path(__file__).parents[1] / "results" / "bench.json"


def main(names: list[str]) -> None:
    """Run the benches named, all if none, and keep what others measured before."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.exit(f"unknown bench {unknown[0]!r}; known are {', '.join(BENCHES)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or BENCHES:
        measured = BENCHES[name]()
        print(json.dumps({name: measured}, indent=2))
        results[name] = {
            **measured,
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {torch.get_num_threads()} cores",
        }
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["scale"]:
        scale.main(sys.argv[2:])
    else:
        main(sys.argv[1:])
