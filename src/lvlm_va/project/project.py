"""The one way in: a classifier, images, and what an expert knows of each class.

    Project(model, data, "specifications.yaml").align()
    Project.from_yaml("project.yaml").align()

From there on there is one path: `pipeline` has the stages in order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from lvlm_va.config.loading import load_config, override, parse_config
from lvlm_va.config.schema import Config
from lvlm_va.critique.person.judging import Judging
from lvlm_va.critique.protocol import Critic
from lvlm_va.critique.question import KINDS
from lvlm_va.critique.review import CriticJudge
from lvlm_va.data.imageset import ImageSet
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError
from lvlm_va.explain.attribution import AttributionMethod
from lvlm_va.explain.own_segments import SegmentationMethod
from lvlm_va.io.console import QuietConsole
from lvlm_va.models.adapter import unwrapped
from lvlm_va.project import check, questions
from lvlm_va.project.critics import make_critic_judge
from lvlm_va.project.export import ExportedModel, Format, Which, export
from lvlm_va.project.inputs import Given, Inputs, given_inputs, load_inputs
from lvlm_va.project.objects import Objects, taken
from lvlm_va.project.pipeline import run_diagnosis, run_pipeline
from lvlm_va.project.results import AlignmentResult, CostEstimate, CritiqueResult, Diagnosis, TrainingResult
from lvlm_va.project.stages.context import AskPerson, Context
from lvlm_va.project.stages.explained import Explained
from lvlm_va.project.stages.original import original_accuracy, original_model
from lvlm_va.project.stages.verdicts import Verdicts, collect_verdicts
from lvlm_va.project.suited import suited_to
from lvlm_va.project.tracking import log_run
from lvlm_va.report.diagnosis import write_diagnosis
from lvlm_va.report.write import write_report
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import ORIGINAL_WEIGHTS, VERDICTS
from lvlm_va.training.process_group import ProcessGroup, launched_group

__all__ = ["Project"]


class Project:
    """A classifier, images, and what an expert knows of each class.

    Everything that is computed goes into the run's directory; the same call on it resumes. Methods raise
    `LvlmVaError`, which says what is wrong, where, and what to do.

    Args:
        model: any module from (n, C, H, W) float32 images to (n, K) logits, alone or in a tuple, a mapping or
            an object with `.logits`; it is not changed. Images are in [0, 1]; where the model wants them
            normalised, say so with settings={"model.normalise": "imagenet"} (or its numbers).
        data: the training set, or `Splits` with validation and test sets too.
        specifications: a YAML file, or the same as a mapping, see `load_specifications`; None is enough for
            `train` and `export`.
        critic: who judges the segments: "builtin", "openai:<model>", "hf:<model>", "person" (see `judging`),
            "ground-truth", the name of an entry point, or any object with a method `critique`, see
            `lvlm_va.Critic`.
        attribution: how Φ is computed: a name, see `explain.attribution`, or any object with a method
            `attribute`, see `lvlm_va.AttributionMethod`; as the settings say when not given.
        segmentation: how segments are found: a name, see `explain.segmentation`, or any object with a method
            `segment`, see `lvlm_va.SegmentationMethod`; as the settings say when not given.
        run: the run's directory.
        settings: any key of a project file, e.g. {"explain.num_images": 64, "align.lambda": [0.01, 0.1]};
            what is not said follows network, image size and number of images, see `project.suited`.
        trained: False if the model is still to be trained, as `model.epochs` etc. say.
        console: told about progress; says nothing by default.
    """

    def __init__(
        self,
        model: nn.Module,
        data: ImageSet | Splits,
        specifications: str | Path | Mapping[str, Any] | None = None,
        *,
        critic: str | Critic = "builtin",
        attribution: str | AttributionMethod | None = None,
        segmentation: str | SegmentationMethod | None = None,
        run: str | Path = "runs/run",
        settings: Mapping[str, Any] | None = None,
        trained: bool = True,
        console: QuietConsole | None = None,
    ) -> None:
        path = Path(run)
        named, self._objects = taken(critic, attribution, segmentation)
        document: dict[str, Any] = {
            "project": re.sub(r"[^A-Za-z0-9._-]+", "-", path.name).lstrip("._-") or "run",
            "run": str(path),
            "model": {"name": type(model).__name__},
        }
        splits = data if isinstance(data, Splits) else Splits(name="data", train=data)
        if splits.normalise is not None:
            document["model"] = {
                "name": type(model).__name__,
                "normalise": {key: list(values) for key, values in splits.normalise.items()},
            }
        # A name is a setting like any other, which `settings` may overrule; an object is the last word.
        document = override(document, named | dict(settings or {}) | self._objects.settings)
        document = override(override({}, _suited(model, splits)), document)
        self.config = parse_config(document, where="settings", objects=self._objects.names)
        self.console = console or QuietConsole()
        self._given: Given | None = Given(model, splits, trained, specifications)
        self._ask: AskPerson | None = None

    @classmethod
    def from_yaml(
        cls,
        path: str | Path,
        settings: Mapping[str, Any] | None = None,
        *,
        critic: str | Critic | None = None,
        attribution: str | AttributionMethod | None = None,
        segmentation: str | SegmentationMethod | None = None,
        console: QuietConsole | None = None,
    ) -> "Project":
        """A project that a file describes; data and model are loaded when they are first needed.

        Args:
            path: a YAML file; relative paths in it start from its folder.
            settings: "section.key" → value, laid over it.
            critic: takes the place of `critique.critic`, see `Project`; likewise
            attribution: of `explain.attribution`, and
            segmentation: of `explain.segmentation`.
            console: told about progress; says nothing by default.

        Raises:
            ConfigError: naming the file, the key, and what to write instead.
        """
        named, objects = taken(critic, attribution, segmentation)
        config = load_config(Path(path))
        values = dict(settings or {}) | named | objects.settings
        if values:
            document = override(config.model_dump(mode="json", by_alias=True), values)
            config = parse_config(document, where=str(path), objects=objects.names)
        return cls.from_config(config, objects=objects, console=console)

    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        objects: Objects | None = None,
        console: QuietConsole | None = None,
        ask: AskPerson | None = None,
    ) -> "Project":
        """A project with these settings, and objects of the caller's in place of names; see `from_yaml`.

        `ask` has a person judge segments, where `critique.critic` is one and more are wanted.
        """
        project = cls.__new__(cls)
        project.config = config
        project.console = console or QuietConsole()
        project._objects = objects or Objects()
        project._given = None
        project._ask = ask
        return project

    @property
    def path(self) -> Path:
        """The run's directory."""
        return self.config.run or Path("runs") / self.config.project

    @cached_property
    def inputs(self) -> Inputs:
        """Images, model and specifications, loaded."""
        return self._load(specified=True)

    def _load(self, *, specified: bool) -> Inputs:
        if self._given is None:
            return load_inputs(self.config, log=self.console.note, specified=specified)
        return given_inputs(self.config, self._given, specified=specified)

    def check(self) -> list[check.Finding]:
        """Look at device, critic, data, model, specifications and numbers; nothing is asked or trained.

        Mistakes do not raise: they are all in the list.
        """
        return check.check_project(self.config, self.console, objects=self._objects, given=self._given)

    def train(self) -> TrainingResult:
        """Train the classifier from the weights it has; needs neither specifications nor a critic."""
        with launched_group() as group, self._open_run(self._load(specified=False), group) as context:
            model = original_model(context)
            return TrainingResult(
                unwrapped(model),
                context.run.file(ORIGINAL_WEIGHTS),
                original_accuracy(context, model),
                context.run.stages["train"].summary,
            )

    def diagnose(self) -> Diagnosis:
        """Say in words what the classifier relies on; nothing is aligned.

        The first half of `align`, which goes on from there and asks nothing again.
        """
        with self._opened() as (context, critic_judge):
            measured = run_diagnosis(context, critic_judge)
            findings, page = ProcessGroup.here().on_main(lambda: write_diagnosis(context.run, measured))
            ProcessGroup.here().on_main(lambda: log_run(context.run, findings, self.console))
            return Diagnosis(context.run.path, findings, page)

    def critique(self, *, share: bool = False) -> CritiqueResult:
        """Ask critic and judge, and stop there: verdicts.csv is then the expert's to overrule.

        Args:
            share: whether other machines may take part, by `lvlm_va.project.joining.join_critique`.
        """
        with self._opened() as (context, critic_judge):
            context = replace(context, share=share)
            found = questions.explained(context)
            collected, critic = context.run.on_main(lambda: _critique(context, found, critic_judge))
            return CritiqueResult(
                context.run.file(VERDICTS), tuple(collected.in_force), critic, collected.propagation
            )

    @contextmanager
    def judging(self) -> Iterator[Judging]:
        """A person's judgements of the segments, where `critic` is "person": see `Judging`.

        The images are explained first. Every judgement is on the disk at once; `critique`, `diagnose` and
        `align` take them from there.

        Raises:
            ConfigError: if the critic is no person.
        """
        with self._alone() as found, questions.judging(*found) as judging:
            yield judging

    def estimate(self) -> CostEstimate:
        """Explain the images and say what the critique would cost; needs no key and asks nothing."""
        with self._alone() as (context, critic_judge):
            return questions.estimate_cost(context, critic_judge)

    def export_questions(self, path: str | Path) -> questions.ExportedQuestions:
        """Write the questions that are open now: X.jsonl as a batch, any other name as a folder."""
        with self._alone() as (context, critic_judge):
            return questions.export_questions(context, critic_judge, Path(path))

    def import_answers(
        self, paths: Sequence[str | Path], *, answered_by: str | None = None, note: str = ""
    ) -> questions.ImportedAnswers:
        """Take the answers of a batch or of folders, and say what came, what failed and what is still open.

        Of folders say who answered, and in `note` how it was asked.
        """
        with self._alone() as (context, critic_judge):
            return questions.import_answers(
                context, critic_judge, [Path(path) for path in paths], answered_by=answered_by, note=note
            )

    def align(self) -> AlignmentResult:
        """Explain, critique, align, evaluate and report (Figure 1)."""
        with self._opened() as (context, critic_judge):
            aligned, metrics = run_pipeline(context, critic_judge)
            report = ProcessGroup.here().on_main(lambda: write_report(context.run))
            ProcessGroup.here().on_main(lambda: log_run(context.run, metrics, self.console))
            return AlignmentResult(context.run.path, metrics, unwrapped(aligned), report)

    def export(
        self, format: Format = "safetensors", *, which: Which = "aligned", out: str | Path | None = None
    ) -> ExportedModel:
        """Write the finished run's model, and MODEL_CARD.md beside it; see `lvlm_va.export`."""
        model = None if self._given is None else self._given.model
        return export(self.path, format=format, which=which, out=out, model=model)

    @contextmanager
    def _opened(self, *, by_file: bool = False) -> Iterator[tuple[Context, CriticJudge | None]]:
        """The run and its critics. A critic that cannot be asked is told first, before data are loaded.

        Of several processes the main one has the critics, which may be large models.
        """
        with launched_group() as group:
            critic_judge = None
            if group.is_main:
                critic_judge = make_critic_judge(
                    self.config.critique, critic=self._objects.critic, by_file=by_file, run=self.path
                )
            with self._open_run(self.inputs, group) as context:
                if critic_judge is not None:
                    critic_judge = replace(critic_judge, specifications=self.inputs.specifications)
                yield context, critic_judge

    @contextmanager
    def _alone(self) -> Iterator[tuple[Context, CriticJudge]]:
        """The run, and its critics as they are asked by file."""
        with self._opened(by_file=True) as (context, critic_judge):
            if critic_judge is None:
                raise ConfigError("questions are planned by one process: run this without torchrun")
            yield context, critic_judge

    @contextmanager
    def _open_run(self, inputs: Inputs, group: ProcessGroup) -> Iterator[Context]:
        document = self.config.model_dump(mode="json", by_alias=True)
        with RunDirectory.open(self.path, document) as run:
            yield Context(
                inputs,
                run,
                self.console if group.is_main else QuietConsole(),
                attribution=self._objects.attribution,
                segmentation=self._objects.segmentation,
                ask=self._ask,
            )


def _suited(model: nn.Module, splits: Splits) -> Mapping[str, Any]:
    """What the settings follow where the caller says nothing."""
    if not isinstance(model, nn.Module):
        return {}
    return suited_to(model, splits).settings


def _critique(context: Context, found: Explained, critic_judge: CriticJudge | None) -> tuple[Verdicts, str]:
    """The verdicts, and whose they are; in the main process."""
    assert critic_judge is not None
    return collect_verdicts(context, found, critic_judge), critic_judge.critic.name + KINDS[
        critic_judge.critic.kind
    ]
