"""The options of all benchmarks; free of heavy imports, so that `--help` answers at once."""

import argparse
from collections.abc import Callable
from pathlib import Path

TRUNKS = (
    "hlip_vit_base_singlescan_h2_token2744",
    "hlip_vit_base_multiscan_h2_token588",
    "hlip_vit_base_multiscan_h2_token1176",
    "hlip_vit_base_multiscan_h3_token1176",
)
RAGGED_TRUNK = "hlip_vit_base_multiscan_h2_token1176"
RAGGED_SCANS = (1, 2, 2, 3, 4, 4, 5, 8)  # 29 of 64: 45 % of the longest
VOLUME_MODELS = ("hsenet_stage1", "hsenet_stage2")
DATA_PARTS = ("reader", "prepare", "crop", "whole", "codec", "loader")
EXPERIMENT = "phantom/hlip_ctrate"
LOCALISE_WAYS = {
    "tables": ("--no-pictures",),
    "pictures": (),
    "bf16": ("--no-pictures", "--precision", "bf16"),
}
ANATOMY_EXPERIMENT = "phantom/fvlm_ctrate"


def build_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Describe the command line of one benchmark."""
    parser = argparse.ArgumentParser(
        prog=f"medvlp bench {name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--json", type=Path, help="write figures and machine facts to this file")
    _ADD[name](parser)
    return parser


def _trunk(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", default=list(TRUNKS), metavar="NAME")
    parser.add_argument("--scans", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)


def _ragged(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", default=[RAGGED_TRUNK], metavar="NAME")
    parser.add_argument(
        "--scans", nargs="+", type=int, default=list(RAGGED_SCANS), help="of each study"
    )
    parser.add_argument("--depth", type=int, default=0, help="first blocks of the trunk; 0: all")
    parser.add_argument("--attention", choices=("sdpa", "varlen", "flash"), default="sdpa")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)


def _volume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="+", default=list(VOLUME_MODELS), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)


def _anatomy(parser: argparse.ArgumentParser) -> None:
    _experiment(parser, ANATOMY_EXPERIMENT)
    parser.add_argument("--recipe", metavar="NAME", help="of conf/data/recipe, for another one")
    parser.add_argument("--studies", type=int, default=8, help="of the test split")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)


def _step(parser: argparse.ArgumentParser) -> None:
    _experiment(parser)
    parser.add_argument("--steps", type=int, default=60, help="measured, after a tenth as warm-up")
    parser.add_argument("--batches", type=int, default=4, help="different batches, held in memory")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)


def _phantom(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", nargs="+", type=int, default=[48, 64, 96], metavar="VOXELS")
    parser.add_argument("--studies", type=int, default=40)


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=DATA_PARTS, default=list(DATA_PARTS))
    parser.add_argument("--shape", nargs=3, type=int, default=[300, 512, 512], metavar="VOXELS")
    parser.add_argument("--spacing", nargs=3, type=float, default=[1.0, 0.7, 0.7], metavar="MM")
    parser.add_argument("--volumes", type=int, default=8, help="scans of the loader's data set")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2], help="of prepare")
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2], help="of the loader")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; else the temporary")
    parser.add_argument("--quick", action="store_true", help="tiny scans, one repeat: a try-out")


def _images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=768, help="of an epoch")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, help="on the disk to measure; else the temporary")
    parser.add_argument("--quick", action="store_true", help="few images, one repeat: a try-out")


def _text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="unimed_clip_vit_b16", help="whose text tower")
    parser.add_argument("--texts", type=int, default=48)
    parser.add_argument("--layers", type=int, default=0, help="the first of the tower; 0: all")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)


def _generation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=8, help="questions at once")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--width", type=int, default=768, help="of the language model")
    parser.add_argument("--layers", type=int, default=6, help="of the language model")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)


def _localise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lesions", type=int, default=100, help="of the study")
    parser.add_argument("--published", type=int, default=3, help="lesions of the published way")
    parser.add_argument("--ways", nargs="+", choices=LOCALISE_WAYS, default=list(LOCALISE_WAYS))
    parser.add_argument("--shape", nargs=3, type=int, default=[400, 512, 512], metavar="VOXELS")
    parser.add_argument("--spacing", nargs=3, type=float, default=[3.0, 1.0, 1.0], metavar="MM")
    parser.add_argument("--pet-shape", nargs=3, type=int, default=[400, 200, 200], metavar="VOXELS")
    parser.add_argument("--vocabulary", default="whole_body", help="shipped, or a file")
    parser.add_argument("--descriptions", help="of the vocabulary, where they are a file apart")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; else the temporary")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)


def _experiment(parser: argparse.ArgumentParser, default: str = EXPERIMENT) -> None:
    parser.add_argument("--experiment", default=default)
    parser.add_argument(
        "--overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="as on the command line of train; paths.data=FOLDER measures on your own data",
    )


_ADD: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "trunk": _trunk,
    "ragged": _ragged,
    "volume": _volume,
    "anatomy": _anatomy,
    "step": _step,
    "phantom": _phantom,
    "data": _data,
    "images": _images,
    "text": _text,
    "localise": _localise,
    "generation": _generation,
}
