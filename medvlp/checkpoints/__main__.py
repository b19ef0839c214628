"""Weight files: `python -m medvlp.checkpoints VERB`.

  inspect FILE                          layout, system, model config, types, hash
  verify FILE --model NAME              load strictly, run a fixed input; code 1 if it does not fit
  convert IN OUT --model NAME --to ours|published|open_clip    the same weights under other names
  extend IN OUT --model NAME            the same weights for a model of more organs
  export FILE DIR --as adapter|merged   folders of Hugging Face's layout, of a model that writes
  decrypt IN OUT --key-file FILE        the weight file in an encrypted container of HCL-AL

FILE is a weight file, or a folder of huggingface.co. NAME is a file of conf/model or, for towers
alone, of conf/tower; key=value behind it changes that config, as in medvlp.train (+lora=published
for a text tower with LoRA, model.logit_bias_init=0.0 for a sigmoid loss, +loss=clip_relation for
HSENet's second stage with its teacher). Checkpoints of medvlp.train carry their model: --model may
be left out. Files are read without running code from them. What cannot be done ends with one line
and code 2.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlp.user_errors import one_line_errors

if TYPE_CHECKING:
    from medvlp.checkpoints.files import WeightFile

_USER_ERROR = 2
_SHOWN = 20  # names of a list that the table shows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _parse(arguments)
    commands: dict[str, Callable[[argparse.Namespace], bool]] = {
        "inspect": _inspect,
        "verify": _verify,
        "convert": _convert,
        "extend": _extend,
        "decrypt": _decrypt,
        "export": _export,
    }
    try:
        with one_line_errors():
            fits = commands[options.verb](options)
    except SystemExit as error:
        print(error.code, file=sys.stderr)
        sys.exit(_USER_ERROR)
    sys.exit(0 if fits else 1)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse; what argparse leaves over are overrides, wherever they stand."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    wrong = [text for text in rest if text.startswith("-") or "=" not in text]
    if wrong or (rest and options.verb in ("inspect", "decrypt")):
        parser.error(f"unrecognized arguments: {' '.join(wrong or rest)}")
    options.overrides = rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m medvlp.checkpoints",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    inspect = verbs.add_parser("inspect", help="say what a file is")
    verify = verbs.add_parser("verify", help="prove that a file fits a model; code 1 if not")
    convert = verbs.add_parser("convert", help="rewrite a file under other names, bit by bit")
    extend = verbs.add_parser("extend", help="carry weights over to a model of more organs")
    decrypt = verbs.add_parser("decrypt", help="take weights out of an encrypted container")
    export = _add_export(verbs)
    for command in (inspect, verify, convert, extend, decrypt, export):
        command.add_argument(
            "file", type=Path, help=".pt, .bin, .safetensors, our .ckpt, or a folder"
        )
    for command in (convert, extend, decrypt, export):
        command.add_argument("target", type=Path, help="its suffix says the format")
    for command in (verify, convert):
        command.add_argument("--model", metavar="NAME", help="of conf/model")
    for command in (inspect, verify, convert, extend, decrypt, export):
        command.add_argument("--json", action="store_true", help="print JSON, no table")
    convert.add_argument("--to", choices=("ours", "published", "open_clip"), required=True)
    convert.add_argument(
        "--layout",
        choices=("bare", "module", "nested"),
        default="bare",
        help="nested with published names is what the published code reads",
    )
    _add_extension(extend)
    decrypt.add_argument(
        "--key-file", type=Path, required=True, metavar="FILE", help="holds the key, 16 letters"
    )
    for command in (convert, extend, decrypt, export):
        command.add_argument("--force", action="store_true", help="replace what is there")
    return parser


def _add_extension(extend: argparse.ArgumentParser) -> None:
    extend.add_argument(
        "--model", metavar="NAME", required=True, help="of conf/model, with the organs wanted"
    )
    extend.add_argument(
        "--organs",
        metavar="A,B,...",
        help="of the file, in the order of its rows; our checkpoints name theirs",
    )
    extend.add_argument("--seed", type=int, default=0, help="of what new organs start from")


def _add_export(verbs: Any) -> argparse.ArgumentParser:
    export = verbs.add_parser("export", help="write folders that Hugging Face's libraries read")
    export.add_argument(
        "--as",
        dest="kind",
        choices=("adapter", "merged"),
        required=True,
        help="low-rank layers alone, for PEFT, or added to the language model's weights",
    )
    export.add_argument(
        "--experiment", metavar="NAME", help="of conf/experiment; our checkpoints name theirs"
    )
    return export


def _inspect(options: argparse.Namespace) -> bool:
    from medvlp.checkpoints.inspection import inspect_file

    _show(inspect_file(options.file), options.json)
    return True


def _verify(options: argparse.Namespace) -> bool:
    from medvlp.checkpoints.files import open_weights
    from medvlp.checkpoints.verification import verify_file

    file = open_weights(options.file)
    result = verify_file(file, _model_tree(file, options))
    _show(result, options.json)
    if not result["fits"]:
        print(f"medvlp: {options.file} {result['verdict']}", file=sys.stderr)
    return result["fits"]


def _convert(options: argparse.Namespace) -> bool:
    from medvlp.checkpoints.conversion import convert_file, require_target
    from medvlp.checkpoints.files import open_weights

    require_target(options.target, options.layout, force=options.force)
    file = open_weights(options.file)
    result = convert_file(
        file,
        options.target,
        _model_tree(file, options),
        names=options.to,
        layout=options.layout,
        force=options.force,
    )
    _show(result, options.json)
    return True


def _extend(options: argparse.Namespace) -> bool:
    from medvlp.checkpoints.extension import extend_file
    from medvlp.checkpoints.files import open_weights
    from medvlp.checkpoints.model_configs import model_tree

    result = extend_file(
        open_weights(options.file),
        options.target,
        model_tree(options.model, options.overrides),
        organs=None if options.organs is None else options.organs.split(","),
        seed=options.seed,
        force=options.force,
    )
    _show(result, options.json)
    return True


def _decrypt(options: argparse.Namespace) -> bool:
    from medvlp.checkpoints.encrypted import decrypt_file

    key = options.key_file.read_bytes()
    _show(decrypt_file(options.file, options.target, key, force=options.force), options.json)
    return True


def _export(options: argparse.Namespace) -> bool:
    from medvlp.checkpoints.export import export_file
    from medvlp.checkpoints.files import open_weights

    result = export_file(
        open_weights(options.file),
        options.target,
        kind=options.kind,
        experiment=options.experiment,
        overrides=options.overrides,
        force=options.force,
    )
    _show(result, options.json)
    return True


def _model_tree(file: "WeightFile", options: argparse.Namespace) -> dict[str, Any]:
    """Compose the model that the command line names, or take the one that the file carries."""
    from medvlp.checkpoints.inspection import carried_model
    from medvlp.checkpoints.model_configs import model_tree

    carried = carried_model(file)
    if options.model is None and carried is not None and not options.overrides:
        return carried
    if options.model is None:
        raise ValueError(
            f"{file.path} needs --model NAME of conf/model; "
            f"python -m medvlp.checkpoints inspect {file.path} names those that it fits"
        )
    return model_tree(options.model, options.overrides)


def _show(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(told, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(told):
        table.add_row(name, value)
    Console().print(table, soft_wrap=False)


def _rows(told: dict[str, Any], indent: str = "") -> list[tuple[str, str]]:
    """Spell nested values out, one line each; long lists are cut with their count."""
    rows: list[tuple[str, str]] = []
    for name, value in told.items():
        if isinstance(value, dict) and value:
            rows += [(indent + name, ""), *_rows(value, indent + "  ")]
        else:
            rows.append((indent + name, _text(value)))
    return rows


def _text(value: Any) -> str:
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if not isinstance(value, list):
        return str(value)
    if all(isinstance(item, (int, float)) for item in value):
        return "  ".join(map(str, value))
    more = [f"and {len(value) - _SHOWN:,} more"] if len(value) > _SHOWN else []
    return "\n".join([*(_text(item) for item in value[:_SHOWN]), *more])


if __name__ == "__main__":
    main()
