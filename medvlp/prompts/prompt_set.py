"""Prompt sets: the exact strings of a published protocol, kept as data files with a hash."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent
_POLARITIES = ("negative", "positive")


@dataclass(frozen=True)
class ClassPrompts:
    """The prompts of one class: a pair, or the positive one alone.

    Attributes:
        name: As the label column is called.
        positive: Says that the finding is there.
        negative: Says that the finding is absent; None in protocols that do not ask.
        organ: Fills `{organ}` of a template.
        tier: Difficulty tier, for macro rows; empty if there is none.
        by_template: Template name -> prompts that replace the pair under that template.
        any_of: Label columns of which one is enough, where none has the name of the class.
    """

    name: str
    positive: str
    negative: str | None = None
    organ: str = ""
    tier: str = ""
    by_template: dict[str, dict[str, str]] = field(default_factory=dict)
    any_of: list[str] = field(default_factory=list)

    @property
    def label_names(self) -> list[str]:
        """Names of the label columns of the class."""
        return self.any_of or [self.name]


@dataclass(frozen=True)
class PromptSet:
    """Class prompts and templates of one protocol.

    Attributes:
        name: Of the protocol's strings.
        templates: Name -> sentences with `{c}` and optionally `{organ}`; several sentences are
            an ensemble whose embeddings are averaged.
        classes: In the order of the protocol's result files.
        groups: Name -> classes of a further macro row.
        merge: Name -> two classes that are scored as one.
    """

    name: str
    templates: dict[str, list[str]]
    classes: list[ClassPrompts]
    groups: dict[str, list[str]] = field(default_factory=dict)
    merge: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def load(cls, name_or_path: str) -> "PromptSet":
        """Read a shipped prompt set by name, or a YAML file by path.

        Raises:
            FileNotFoundError: If neither exists.
            ValueError: If a class lacks a prompt, or a name in the file is unknown.
        """
        shipped = sorted(path.stem for path in _FOLDER.glob("*.yaml"))
        path = _FOLDER / f"{name_or_path}.yaml" if name_or_path in shipped else Path(name_or_path)
        if not path.is_file():
            raise FileNotFoundError(
                f"no prompt set {name_or_path!r}{_nearest(name_or_path, shipped)}; shipped are "
                f"{', '.join(shipped)}, or give the path of a YAML file"
            )
        return cls.from_dict(yaml.safe_load(path.read_text()), source=str(name_or_path))

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any], source: str = "prompt set") -> "PromptSet":
        """Build from the content of a YAML file; `source` names it in errors.

        Raises:
            ValueError: If a class lacks a prompt, or a name in the tree is unknown.
        """
        _check_keys(tree, ("name", "templates", "classes"), ("groups", "merge"), source)
        classes = [_parse_class(entry, source) for entry in tree["classes"]]
        optional = {key: dict(tree.get(key, {})) for key in ("groups", "merge")}
        prompts = cls(tree["name"], dict(tree["templates"]), classes, **optional)
        prompts._check(source)
        return prompts

    @property
    def class_names(self) -> list[str]:
        """Names of the classes that have prompts, in protocol order."""
        return [entry.name for entry in self.classes]

    @property
    def scored_names(self) -> list[str]:
        """Names of the classes that have figures: merged ones come last, their parts are gone."""
        parts = {part for pair in self.merge.values() for part in pair}
        return [*(name for name in self.class_names if name not in parts), *self.merge]

    @property
    def hash(self) -> str:
        """SHA-256 of the content: equal for files that differ in layout or comments only."""
        tree = {
            "templates": self.templates,
            # hashes of sets without any_of stay what they were before there was such a key
            "classes": [
                {k: v for k, v in vars(entry).items() if k != "any_of" or v}
                for entry in self.classes
            ],
            "groups": self.groups,
            "merge": self.merge,
        }
        text = json.dumps(tree, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def texts(self, class_name: str, template: str) -> tuple[list[str], list[str]]:
        """Return all negative and all positive sentences of a class under a template.

        A class without a negative prompt has no negative sentences.

        >>> PromptSet.load("ct_rate").texts("Lung nodule", "organ")
        (['The lung shows: Not nodule.'], ['The lung shows: Nodule.'])
        >>> PromptSet.load("pub_brain_5").texts("Stroke", "study")
        ([], ['This MRI study shows: Acute stroke.'])

        Raises:
            ValueError: If the class or the template is unknown; names the nearest.
        """
        if template not in self.templates:
            raise ValueError(_unknown("template", template, self.templates, self.name))
        entry = {c.name: c for c in self.classes}.get(class_name)
        if entry is None:
            raise ValueError(_unknown("class", class_name, self.class_names, self.name))
        pair = {"negative": entry.negative, "positive": entry.positive}
        pair |= entry.by_template.get(template, {})
        sentences = self.templates[template]
        negative, positive = (
            [sentence.format(c=prompt, organ=entry.organ) for sentence in sentences]
            if (prompt := pair[polarity]) is not None
            else []
            for polarity in _POLARITIES
        )
        return negative, positive

    def pairs(self, template: str) -> list[tuple[list[str], list[str]]]:
        """Return the sentences of all classes under a template, negative ones first.

        Raises:
            ValueError: If a class has no negative prompt, or the template is unknown.
        """
        texts = [self.texts(name, template) for name in self.class_names]
        single = [
            n for n, (negative, _) in zip(self.class_names, texts, strict=True) if not negative
        ]
        if single:
            raise ValueError(
                f"prompt set {self.name} has no negative prompt for {', '.join(single)}: a pair "
                "cannot be scored; write one, or score by the positive prompt alone "
                "(score: cosine)"
            )
        return texts

    def label_columns(
        self, label_names: Sequence[str], class_names: Sequence[str] | None = None
    ) -> list[list[int]]:
        """Find the label columns of every class, or of those named.

        Raises:
            ValueError: If a class is unknown, or has no label among `label_names`.
        """
        known = {entry.name: entry.label_names for entry in self.classes}
        for name in class_names or ():
            if name not in known:
                raise ValueError(_unknown("class", name, known, self.name))
        wanted = [known[name] for name in class_names or known]
        missing = [name for names in wanted for name in names if name not in label_names]
        if missing:
            raise ValueError(
                f"prompt set {self.name} scores {', '.join(missing)}, the data set has no such "
                f"label among {', '.join(label_names)}; use another prompt set or correct the names"
            )
        return [[list(label_names).index(name) for name in names] for names in wanted]

    def macro_groups(self) -> dict[str, list[str]]:
        """Return the classes of each macro row: all, every tier, every named group."""
        rows = {"all": self.scored_names}
        for entry in self.classes:
            if entry.tier and entry.name in rows["all"]:
                rows.setdefault(entry.tier, []).append(entry.name)
        return rows | self.groups

    def _check(self, source: str) -> None:
        names = self.class_names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{source}: classes given twice: {', '.join(twice)}")
        lists = [
            (f"group {key}", members, self.scored_names) for key, members in self.groups.items()
        ]
        lists += [(f"merge {key}", members, names) for key, members in self.merge.items()]
        for where, members, known in lists:
            for member in members:
                if member not in known:
                    raise ValueError(_unknown("class", member, known, f"{where}, {source}"))
        single = [entry.name for entry in self.classes if entry.negative is None]
        if 0 < len(single) < len(self.classes):
            raise ValueError(
                f"{source}, class {single[0]}: lacks negative, which other classes have; "
                "add it to the file, or leave it out everywhere"
            )
        for entry in self.classes:
            for template in entry.by_template:
                if template not in self.templates:
                    where = f"{source}, class {entry.name}"
                    raise ValueError(_unknown("template", template, self.templates, where))


def _parse_class(entry: Mapping[str, Any], source: str) -> ClassPrompts:
    where = f"{source}, class {entry.get('name', '?')}"
    optional = ("negative", "organ", "tier", "by_template", "any_of")
    _check_keys(entry, ("name", "positive"), optional, where)
    for polarity in _POLARITIES:
        if polarity in entry and not str(entry[polarity] or "").strip():
            raise ValueError(f"{where}: the {polarity} prompt is empty; write what it says")
    return ClassPrompts(**entry)


def _check_keys(
    tree: Mapping[str, Any], required: Iterable[str], optional: Iterable[str], where: str
) -> None:
    required = list(required)
    missing = [key for key in required if key not in tree]
    if missing:
        raise ValueError(f"{where}: lacks {', '.join(missing)}; add it to the file")
    known = [*required, *optional]
    for key in tree:
        if key not in known:
            raise ValueError(_unknown("key", key, known, where))


def _unknown(kind: str, name: str, known: Iterable[str], where: str) -> str:
    known = list(known)
    return f"no {kind} {name!r} in {where}{_nearest(name, known)}; it has {', '.join(known)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    lower = {option.lower(): option for option in known}
    close = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(lower[option] for option in close)}?" if close else ""
