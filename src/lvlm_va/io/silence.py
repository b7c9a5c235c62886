"""What libraries would send or write unasked is turned off here, before the first of them is imported.

Everything goes through the environment, which the processes that we start inherit.
"""

import importlib
import os
import sys
import warnings
from pathlib import Path

from lvlm_va.io.files import cache_directory

__all__ = ["load_fonts", "silence"]

_OFF = {
    # onnxruntime makes a device id and looks up its maker's host when its native code is loaded.
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
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
        warnings.warn(
            "onnxruntime was imported before lvlm_va, and its telemetry is on: import lvlm_va first, or set "
            "ORT_DISABLE_TELEMETRY=1",
            RuntimeWarning,
            stacklevel=3,
        )
        if events_off := getattr(sys.modules["onnxruntime"], "disable_telemetry_events", None):
            events_off()
    os.environ.update(_OFF)
    try:
        cache = cache_directory().absolute()
    except RuntimeError:  # no home: whoever needs the cache says so
        return
    if not os.environ.get("MPLCONFIGDIR") and "matplotlib" not in sys.modules:
        config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
        if (style := config / "matplotlib" / "matplotlibrc").is_file():
            os.environ.setdefault("MATPLOTLIBRC", str(style))
        os.environ["MPLCONFIGDIR"] = str(cache / "matplotlib")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "torch"))


def load_fonts() -> None:
    """Import matplotlib's fonts before a figure does: it asks fc-list, which would write a cache of its own.

    Our figures are set in DejaVu Sans, which comes with matplotlib.
    """
    before = os.environ.get("FONTCONFIG_FILE")
    os.environ["FONTCONFIG_FILE"] = str(Path(__file__).with_name("no-fonts.conf"))
    try:
        importlib.import_module("matplotlib.font_manager")
    finally:
        del os.environ["FONTCONFIG_FILE"]
        if before is not None:
            os.environ["FONTCONFIG_FILE"] = before
