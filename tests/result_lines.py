"""Made-up results of experiments, whose means and differences are known."""

from experiments.description import Experiment
from experiments.results import Result

TRUTH = "ground truth of the planted feature (oracle)"
READS = {"oracle-verdicts": TRUTH, "ground-truth-masks": TRUTH}
SEES = {"subg": "group labels of training", "dfr": "group labels of validation"}


def named(method, *, seed, source="", dataset="knee", size="reduced", setting=None):
    words = [f"{dataset} {size}", f"seed {seed}", method, source]
    words += [f"{key}={value}" for key, value in (setting or {}).items()]
    return {
        "trial": ", ".join(word for word in words if word),
        "dataset": dataset,
        "size": size,
        "seed": seed,
        "method": method,
        "source": source,
        "setting": setting or {},
        "inputs": "",
    }


def measured(method, *, worst, average=0.9, more=None, verdicts=None, record=None, usd=None, **where):
    """A line with groups: knee or skin."""
    line = named(method, **where)
    test = f"{line['dataset']} test"
    return line | {
        "reads": READS.get(line["source"], SEES.get(method, "")),
        "seconds": 10.0,
        "machine": "a machine",
        "versions": {"lvlm_va": "0"},
        "settings": ["data.size=112"] if line["size"] == "reduced" else [],
        "measures": {
            "validation": 0.5,
            "accuracy": {test: average},
            "groups": {
                test: {
                    "accuracy": {"with tag": worst, "without tag": 2 * average - worst},
                    "images": {"with tag": 30, "without tag": 70},
                    "average": average,
                    "worst": worst,
                }
            },
            "training_weighted": {test: average},
            "ece": {test: 0.125},
            "mu_align": {"mean": 0.75, "std": 0.0, "n": 9},
            "sensitivity": {"rate": 0.25, "added": {"rate": 0.375}, "removed": None},
            **(more or {}),
        },
        "record": record or {},
        "verdicts": verdicts,
        "usd": usd,
    }


def ungrouped(method, *, accuracy, clean, validation=0.5, **where):
    """A line without groups: DecoyMNIST."""
    line = named(method, dataset="decoy-mnist", size="full", **where)
    return line | {
        "reads": READS.get(line["source"], ""),
        "seconds": 10.0,
        "measures": {
            "validation": validation,
            "accuracy": {"DecoyMNIST test": accuracy, "clean MNIST test": clean},
            "groups": {},
            "mu_align": {"mean": accuracy, "std": 0.0, "n": 9},
        },
        "record": {},
        "verdicts": None,
        "usd": None,
    }


def judged(accuracy, recall):
    return {
        "segments": 10,
        "spurious": 4,
        "unscored": 1,
        "quality": {"accuracy": accuracy, "recall": recall},
    }


def failed(method, why, **where):
    """A line without measures."""
    return named(method, **where) | {"failed": why}


def results(lines):
    """As pages take them."""
    return [Result.model_validate(line) for line in lines]


def about(name, page, **more):
    """An experiment."""
    values = {"values": ["x"]} if "varies" in more else {}
    document = {"title": f"Title of {name}", "paper": "Fig. 0", "page": page, "how_chosen": "by verdicts"}
    return Experiment(name=name, datasets=["knee"], compare=[], **{**document, **values, **more})
