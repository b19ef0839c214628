"""fVLM: captions of organs."""

import json
import tempfile
from pathlib import Path

from medvlp.data.organ_captions import OrganCaptions

from .registry import Case, handles


@handles("fvlm", "caption_assembly")
def caption_assembly(case: Case) -> None:
    config = case.config
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.json" for name in ("desc_info", "conc_info")]
        for path in paths:
            path.write_text(json.dumps(config[path.stem]), encoding="utf-8")
        organs = list(dict.fromkeys(o for row in config["expected_caption"].values() for o in row))
        captions = OrganCaptions(*paths, organs=organs, compat="published")
    for patient in config["patients"]:
        ours = captions.of(patient)
        for key, attribute in (
            ("expected_caption", "text"),
            ("expected_abnormal", "abnormal"),
            ("expected_text_for_encoder", "encoder_text"),
        ):
            for organ, expected in config[key][patient].items():
                assert getattr(ours[organ], attribute) == expected, f"{patient} {organ}: {key}"
