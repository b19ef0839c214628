"""DICOM series, classic (one slice per file) and enhanced (all slices in one), to one volume."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.readers.dicom_correction import resample_slices, straighten
from medvlp.data.readers.dicom_frames import decode, frames_of
from medvlp.data.readers.dicom_geometry import Stack, affine_of, stack_frames
from medvlp.data.readers.dicom_headers import (
    SeriesFacts,
    dicom_index,
    find_files,
    lenient_values,
    read_headers,
    series_of,
)
from medvlp.data.readers.dicom_spacing import even_heights, is_uneven, require_complete
from medvlp.data.readers.registry import Irregular, ReadError, series_reader
from medvlp.data.scan import Rescale, Scan, orientation_of

__all__ = ["SeriesFacts", "dicom_index", "read_dicom"]

_LOWEST_HU = -1024.0


@series_reader(".dcm", ".dicom", ".ima", magic_offset=128, magic=b"DICM")
def read_dicom(
    path: Path,
    files: Sequence[Path] = (),
    *,
    irregular: Irregular = "refuse",
    modality: str | None = None,
) -> Scan:
    """Read a DICOM series; slices are sorted by position, whatever their names and numbers say.

    Of several series the reconstructed scan with the most images is taken, originals before
    derived ones; localizers, screen shots, reports and segmentations never are. All that were
    found are told in a warning and in `provenance`; so is what was corrected, sentence by sentence
    in its `corrections`.

    Args:
        path: A folder, searched with the folders in it.
        files: Only these; `path` is then for messages.
        irregular: "refuse" a series that is tilted or unevenly spaced, or "correct" it: shift the
            slices within their planes until they lie straight above each other, and interpolate
            between them onto even heights, both linearly. Missing slices are never made up.
        modality: Take only series of this DICOM code.

    Returns:
        Axes (slices, rows, columns), slices along the normal of the plane (upwards for axial
        ones). Integers as stored, the rule to HU in `rescale`; values in float32 with the rule
        applied where slices have different rules (MR and PET; for CT that is an error). Voxels
        outside a CT's field of view (PixelPaddingValue, if below -1024 HU) get the lowest value
        inside.

    Raises:
        ImportError: If pydicom is missing.
        ReadError: If there is no scan, slices are missing, doubled, unevenly spaced, tilted or of
            mixed size or orientation, pixels are damaged or there is no decoder for them.
    """
    with lenient_values():
        return _read(path, files, irregular, modality)


def _read(path: Path, files: Sequence[Path], irregular: Irregular, modality: str | None) -> Scan:
    headers = dict(read_headers(files or find_files(path), strict=bool(files)))
    found = series_of(headers.items())
    series = _choose(path, found, modality)
    where = f"{path}, series {series.number}" if len(found) > 1 else str(path)
    frames = [frame for file in series.files for frame in frames_of(file, headers[file])]
    stack = stack_frames(frames, where)
    _require_sound(stack, where, irregular)
    headers = {frame.path: headers[frame.path] for frame in stack.frames}
    array, rescale = _values(where, stack, headers, series.modality)
    array, affine, corrections = _corrected(where, stack, array)
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return Scan(
        array=array,
        affine=affine,
        spacing_mm=(z, y, x),
        orientation=orientation_of(affine),
        rescale=rescale,
        modality=series.modality,
        provenance={**_provenance(path, series, found, stack), "corrections": corrections},
    )


def _choose(path: Path, found: Sequence[SeriesFacts], modality: str | None) -> SeriesFacts:
    if not found:
        raise ReadError(f"{path}: no DICOM image in the folder")
    scans = [facts for facts in found if facts.is_scan and modality in (None, facts.modality)]
    if not scans:
        wanted = f"a scan of modality {modality}" if modality else "a scan"
        raise ReadError(
            f"{path}: holds no image of {wanted}, only {'; '.join(str(facts) for facts in found)}"
        )
    chosen = max(scans, key=lambda facts: (facts.kind == "original", facts.num_images))
    if len(found) > 1:
        warnings.warn(
            f"{path} holds {len(found)} series; taken: {chosen}, the scan with the most images, "
            "originals first; left out: "
            + "; ".join(str(facts) for facts in found if facts is not chosen),
            stacklevel=5,
        )
    return chosen


def _require_sound(stack: Stack, where: str, irregular: Irregular) -> None:
    """Refuse what cannot be corrected and, unless it is asked for, what can."""
    faults: list[str] = []
    if stack.is_tilted:
        faults.append(
            "gantry tilt: slices are shifted against each other, the axis is tilted by "
            f"{stack.tilt_degrees:.1f} degrees"
        )
    if is_uneven(stack.heights_mm):
        gaps = np.diff(stack.heights_mm)
        faults.append(
            f"uneven spacing: slices are from {gaps.min():.3g} to {gaps.max():.3g} mm apart"
        )
    require_complete(stack, where)
    if faults and irregular == "refuse":
        raise ReadError(
            f'{where}: {", and ".join(faults)}; read it with irregular="correct" to have it '
            "resampled, or leave it out"
        )


def _corrected(
    where: str, stack: Stack, array: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Bring an irregular stack to a rectangular grid; returns also what had to be changed."""
    corrections: list[str] = []
    affine = affine_of(stack)
    if stack.num_dropped:
        corrections.append(
            f"{stack.num_dropped} copies of slices that were there twice were left out"
        )
    if stack.is_tilted:
        array, affine = straighten(array, stack, float(array.min()))
        corrections.append(
            f"{len(array)} slices with a gantry tilt of {stack.tilt_degrees:.1f} degrees were "
            "shifted straight"
        )
    if is_uneven(stack.heights_mm):
        even_mm, gaps = even_heights(stack.heights_mm), np.diff(stack.heights_mm)
        array, affine = resample_slices(array, affine, stack.heights_mm, even_mm, where)
        corrections.append(
            f"{len(stack.frames)} slices from {gaps.min():.3g} to {gaps.max():.3g} mm apart were "
            f"resampled to {len(array)} every {even_mm[1] - even_mm[0]:.3g} mm"
        )
    if corrections:
        warnings.warn(f"{where}: {'; '.join(corrections)}", stacklevel=5)
    return array, affine, corrections


def _values(
    where: str, stack: Stack, headers: dict[Path, Any], modality: str
) -> tuple[np.ndarray, Rescale]:
    """Decode; return stored numbers with their rule, or values if each slice has its own rule."""
    array = decode(stack.frames, headers)
    rules = Counter(Rescale(frame.slope, frame.intercept) for frame in stack.frames)
    if modality == "CT":
        _fill_padding(array, stack, headers)
        if len(rules) > 1:
            raise ReadError(
                f"{where}: slices with {len(rules)} different rules to HU: "
                + ", ".join(f"{n} of x * {r.slope:g} + {r.intercept:g}" for r, n in rules.items())
            )
    else:
        _turn_inverted(array, headers)
    if len(rules) == 1:
        return array, next(iter(rules))
    values = array.astype(np.float32)
    for frame, slice_ in zip(stack.frames, values, strict=True):
        slice_ *= np.float32(frame.slope)
        slice_ += np.float32(frame.intercept)
    return values, Rescale()


def _fill_padding(array: np.ndarray, stack: Stack, headers: dict[Path, Any]) -> None:
    """Replace what lies outside the field of view, and below any HU, by the lowest value inside."""
    outside = np.zeros(array.shape, bool)
    for frame, slice_, mask in zip(stack.frames, array, outside, strict=True):
        value = headers[frame.path].get("PixelPaddingValue")
        if value is not None:
            limit = headers[frame.path].get("PixelPaddingRangeLimit")
            low, high = sorted((int(value), int(value if limit is None else limit)))
            if high * frame.slope + frame.intercept < _LOWEST_HU:
                mask[:] = (slice_ >= low) & (slice_ <= high)
    if outside.any() and not outside.all():
        array[outside] = array[~outside].min()


def _turn_inverted(array: np.ndarray, headers: dict[Path, Any]) -> None:
    """Turn slices that store white as 0 (MONOCHROME1); HU of a CT mean the same either way."""
    kinds = {str(header.get("PhotometricInterpretation") or "") for header in headers.values()}
    if kinds == {"MONOCHROME1"}:
        low, high = array.min(), array.max()
        np.subtract(high, array, out=array)
        array += low
    elif "MONOCHROME1" in kinds:
        raise ReadError(f"{next(iter(headers)).parent}: some slices are inverted (MONOCHROME1)")


def _provenance(
    path: Path, series: SeriesFacts, found: Sequence[SeriesFacts], stack: Stack
) -> dict[str, Any]:
    uneven = is_uneven(stack.heights_mm)
    gaps = np.diff(stack.heights_mm) if uneven else []
    return {
        "path": str(path),
        "reader": "dicom",
        "modality": series.modality,
        "series_uid": series.series_uid,
        "chosen": f"{series}: the scan with the most images, originals first",
        "series_found": [str(facts) for facts in found],
        "num_slices": len(stack.frames),
        "num_copies_dropped": stack.num_dropped,
        "tilt_corrected_degrees": round(stack.tilt_degrees, 3) if stack.is_tilted else 0.0,
        "gaps_mm": [round(float(gap), 4) for gap in gaps],
        "resampled_slices": len(even_heights(stack.heights_mm)) if uneven else 0,
    }
