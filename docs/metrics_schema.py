"""The JSON schema of metrics.json, written from its type: python docs/metrics_schema.py"""

import json
from pathlib import Path

from lvlm_va.run.metrics import METRICS_FORMAT, RunMetrics

SCHEMA = Path(__file__).with_name("metrics.schema.json")


def schema() -> str:
    """The schema as it is committed."""
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"metrics.json of LVLM-VA, format {METRICS_FORMAT}",
    }
    described = RunMetrics.model_json_schema(mode="serialization", by_alias=True)
    return json.dumps(described | document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema(), "utf-8")
