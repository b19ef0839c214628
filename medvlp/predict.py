"""Predict: `python -m medvlp.predict SCAN... --ckpt CKPT [--out DIR]`.

A model of volumes takes one study: SCAN is a NIfTI file, a DICOM folder (of one series or many),
or any other format that is known; several of them are the scans of one study. Findings, the
embedding and activation maps (--map) go into --out as JSON, NPY, NIfTI and PNG, none of which names
the patient.

A model of 2D images takes any number of them: SCAN is an image, DICOM file, folder or pattern, and
every image is a sample. Its scores over the texts (--prompt, repeated) go into --out as JSON, CSV,
NPY and PNG, under the names of the files. The exit code is 3 if some images could not be read.

A model of organs (fVLM) takes one CT scan and --masks: findings, each in its organ, and an
embedding of every organ.

A language model that sees (HSENet) takes one CT scan: it writes a report, if it has learnt to, and
answers --ask.

A checkpoint of medvlp.train knows how its scans are prepared; published weights need --experiment.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from medvlp.user_errors import one_line_errors

UNREADABLE_CODE = 3


def predict(options: argparse.Namespace) -> int:
    """Run what the command line asks for; returns how many images could not be read.

    Raises:
        FileNotFoundError, ValueError: If a scan, the checkpoint or a prompt cannot be used.
    """
    from medvlp import config
    from medvlp.data.image_recipe import ImageRecipe
    from medvlp.models.fvlm import FVLM
    from medvlp.models.hsenet_vlm import HSENetVLM
    from medvlp.prediction.loaded_model import load_model
    from medvlp.prediction.predict_images import predict_images
    from medvlp.prediction.predict_organs import predict_organs
    from medvlp.prediction.predict_report import predict_report
    from medvlp.prediction.predict_study import predict_study

    config.require_writable(options.out)
    loaded = load_model(options.ckpt, experiment=options.experiment, overrides=options.set or ())
    if isinstance(loaded.model, HSENetVLM):
        predict_report(options, loaded)
        return 0
    if options.ask:
        raise ValueError(
            f"--ask: for language models; {loaded.experiment} has a {type(loaded.model).__name__}, "
            "which is asked by --findings and --prompt"
        )
    if isinstance(loaded.recipe, ImageRecipe):
        return predict_images(options, loaded)
    if isinstance(loaded.model, FVLM):
        predict_organs(options, loaded)
        return 0
    predict_study(options, loaded)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m medvlp.predict", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("scans", nargs="+", metavar="SCAN", help="file, folder or, of images, pattern")
    add("--ckpt", type=Path, required=True, help="of medvlp.train, or published weights")
    add("--out", type=Path, default=Path("prediction"), help="folder; default: %(default)s")
    add("--experiment", help="experiment of conf/; published weights need it")
    add("--set", action="append", metavar="KEY=VALUE", help="override of the experiment's tree")
    add("--evaluation", help="whose prompts; default: the experiment's first")
    add("--prompt", action="append", metavar="TEXT", help="a whole sentence; may be repeated")
    _add_options_of_volumes(parser.add_argument_group("models of volumes"))
    _add_options_of_images(parser.add_argument_group("models of 2D images"))
    return parser


def _add_options_of_volumes(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--findings", nargs="+", metavar="NAME", help="of the prompt set, or in your own words")
    masks = "of organs: what TotalSegmentator (task total) wrote for the scan; or totalsegmentator"
    add("--masks", metavar="PATH", help=f"{masks} to run it")
    add("--map", action="store_true", help="activation maps: NIfTI and PNG")
    add("--min-slices", type=int, help="fewest slices; default: 8")
    add("--derived", action="store_true", help="take derived DICOM series too")
    add("--correct", action="store_true", help="resample tilted or uneven DICOM series")
    add("--orientation", metavar="SPL", help="letters of the stored axes, if the header is wrong")
    add("--ask", action="append", metavar="QUESTION", help="of language models; may be repeated")
    rescale = "rule from stored numbers to HU, if a table has it (CT-RATE v1)"
    add("--rescale", nargs=2, type=float, metavar=("SLOPE", "INTERCEPT"), help=rescale)


def _add_options_of_images(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    scoring = (
        "temperature: softmax of the cosine at the learnt scale (default); raw_image: of image "
        "features as they are, which made UniMed-CLIP's printed numbers and its web demo; cosine"
    )
    add("--scoring", choices=("temperature", "raw_image", "cosine"), help=scoring)
    add("--template", metavar="TEXT", help='before every prompt, or around it with "{}"')
    expect = "prompts, and published scores that must come out; see experiments/unimed_vitb16"
    add("--expect", type=Path, metavar="FILE", help=expect)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of the user end with one line."""
    options = _parser().parse_args(arguments)
    with one_line_errors():
        unreadable = predict(options)
    if unreadable:
        sys.exit(UNREADABLE_CODE)


if __name__ == "__main__":
    main()
