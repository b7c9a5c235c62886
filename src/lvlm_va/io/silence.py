"""What libraries would send or write unasked is turned off here, before the first of them is imported.

Everything goes through the environment, which the processes that we start inherit. This is imported before
the guard against Ctrl-C stands, so it imports nothing that takes time, pathlib included.
"""

import os
import sys

__all__ = ["cache_folder", "load_fonts", "silence"]

_OFF = {
    # onnxruntime makes a device id and looks up its maker's host when its native code is loaded.
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    # To where it is told to log (MLFLOW_TRACKING_URI) MLflow logs; its makers need not know.
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def silence() -> None:
    """Turn telemetry off, and let caches of other libraries live in ours.

    Called when `lvlm_va` is imported; imports nothing that it silences. A user's own `MPLCONFIGDIR` and
    `TORCHINDUCTOR_CACHE_DIR` stay, and so does a matplotlibrc in the usual place.

    Warns:
        RuntimeWarning: if onnxruntime was imported before, with its telemetry on, which nothing can undo.
    """
    # Only the environment is read when onnxruntime is loaded: its disable_telemetry_events() comes too late.
    if "onnxruntime" in sys.modules and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
        import warnings

        warnings.warn(
            "onnxruntime was imported before lvlm_va, and its telemetry is on: import lvlm_va first, or set "
            "ORT_DISABLE_TELEMETRY=1",
            RuntimeWarning,
            stacklevel=3,
        )
        if events_off := getattr(sys.modules["onnxruntime"], "disable_telemetry_events", None):
            events_off()
    os.environ.update(_OFF)
    cache = cache_folder()
    if cache.startswith("~"):  # no home: whoever needs the cache says so
        return
    cache = os.path.abspath(cache)
    if not os.environ.get("MPLCONFIGDIR") and "matplotlib" not in sys.modules:
        config = os.path.expanduser(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
        style = os.path.join(config, "matplotlib", "matplotlibrc")
        if os.path.isfile(style):
            os.environ.setdefault("MATPLOTLIBRC", style)
        os.environ["MPLCONFIGDIR"] = os.path.join(cache, "matplotlib")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(cache, "torch"))


def cache_folder() -> str:
    """The package's cache: `LVLM_VA_CACHE`, else `XDG_CACHE_HOME/lvlm-va`, else `~/.cache/lvlm-va`.

    Begins with "~" where there is no home folder.
    """
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return os.path.expanduser(os.environ.get("LVLM_VA_CACHE") or os.path.join(root, "lvlm-va"))


def load_fonts() -> None:
    """Import matplotlib's fonts before a figure does: it asks fc-list, which would write a cache of its own.

    Our figures are set in DejaVu Sans, which comes with matplotlib.
    """
    import importlib

    if "matplotlib.font_manager" in sys.modules:
        return
    before = os.environ.get("FONTCONFIG_FILE")
    os.environ["FONTCONFIG_FILE"] = os.path.join(os.path.dirname(__file__), "no-fonts.conf")
    try:
        importlib.import_module("matplotlib.font_manager")
    finally:
        del os.environ["FONTCONFIG_FILE"]
        if before is not None:
            os.environ["FONTCONFIG_FILE"] = before
