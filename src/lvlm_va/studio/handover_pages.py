"""Hand over: what leaves the studio as files."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from lvlm_va.errors import ConfigError
from lvlm_va.project.export import FORMATS, Which, export
from lvlm_va.report.write import write_report
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import CRITIC_VERDICTS, DIAGNOSIS, METRICS, VERDICTS
from lvlm_va.studio.exchange import COCO, LABEL_STUDIO, coco, label_studio
from lvlm_va.studio.history import HISTORY
from lvlm_va.studio.page import address, page
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.subject import Subject
from lvlm_va.studio.teach_pages import EXAMPLES

__all__ = ["READ", "WRITE"]

_FILES = {
    "report.html": "the report, one page that needs nothing but itself",
    "diagnosis.html": "what the classifier relies on, as a page",
    METRICS: "every number of the report",
    DIAGNOSIS: "every number of the diagnosis",
    VERDICTS: "the verdicts in force, for a spreadsheet",
    CRITIC_VERDICTS: "what the critic said",
    HISTORY: "who changed which verdict, when and why",
    COCO: "the verdicts as COCO: one annotation per segment",
    LABEL_STUDIO: "the verdicts for Label Studio: one task per image",
    EXAMPLES: "examples for the judge",
}


def handover(request: Request, subject: Subject) -> Response:
    """What there is to take."""
    folder = subject.path / "export"
    exported = sorted(
        path.relative_to(subject.path).as_posix() for path in folder.glob("*/*") if path.is_file()
    )
    metrics = subject.metrics()
    return page(
        request,
        "handover.html",
        subject,
        here="handover",
        formats=list(FORMATS),
        files=[(name, what) for name, what in _FILES.items() if (subject.path / name).is_file()],
        exported=exported,
        aligned=metrics is not None,
        original_stays=metrics is not None and metrics.lam.original_stays,
        critiqued=subject.is_critiqued,
        done=request.query_params.get("done", ""),
    )


def write(request: Request, subject: Subject, form: dict[str, str]) -> Response:
    """Write what is asked for into the run."""
    do = form.get("do", "")
    formats = [name for name in FORMATS if name == do]
    if formats:
        which: Which = "original" if form.get("which") == "original" else "aligned"
        done = export(subject.path, format=formats[0], which=which)
        text = f"{done.path.relative_to(subject.path).as_posix()} and its model card are written."
        if done.difference is not None:
            text += f" Its logits differ from the model’s by at most {done.difference:.1e}."
    elif do in ("coco", "label-studio"):
        make, name = (coco, COCO) if do == "coco" else (label_studio, LABEL_STUDIO)
        content = make(subject.images(), Review(subject).standing().in_force)
        with RunDirectory.open(subject.path) as run:
            run.write(name, content)
        text = f"{name} is written."
    elif do == "report":
        with RunDirectory.open(subject.path) as run:
            write_report(run)
        text = "report.html is written again."
    else:
        raise ConfigError("that is nothing the studio can write")
    return RedirectResponse(address(request, subject, "handover", done=text), status_code=303)


def download(request: Request, subject: Subject) -> Response:
    """A file of the run that may be taken; always as a download, never as a page of the studio."""
    name = request.path_params["name"]
    path = subject.path / name
    known = name in _FILES or (name.startswith("export/") and _is_within(path, subject.path / "export"))
    if not known or not path.is_file():
        return Response(status_code=404)
    return FileResponse(path, filename=path.name, media_type="application/octet-stream")


def _is_within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


READ = {"/handover": handover, "/download/{name:path}": download}
WRITE = {"/handover": write}
