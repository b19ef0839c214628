import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from medvlp.data.readers.arrays import read_npz
from medvlp.data.readers.registry import ReadError, read
from medvlp.data.scan import orientation_of, resampled_affine


def ramp(dtype: str = "int16") -> np.ndarray:
    return np.arange(3 * 4 * 5).reshape(3, 4, 5).astype(dtype)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float16", "float32", ">i2"])
def test_all_kinds_give_the_array(tmp_path: Path, dtype: str) -> None:
    np.savez(tmp_path / "plain.npz", ramp(dtype))
    np.savez_compressed(tmp_path / "small.npz", ct=ramp(dtype), spacing=np.ones(3))
    np.save(tmp_path / "c.npy", ramp(dtype))
    np.save(tmp_path / "f.npy", np.asfortranarray(ramp(dtype)))
    native = ramp(dtype).astype(np.dtype(dtype).newbyteorder("="))
    torch.save(torch.from_numpy(native)[None], tmp_path / "t.pt")
    for path in tmp_path.iterdir():
        scan = read(path)
        np.testing.assert_array_equal(scan.array, ramp())
        assert scan.array.dtype == native.dtype and scan.array.dtype.isnative
        assert not scan.has_geometry and "must state spacing" in scan.provenance["geometry"]


def test_an_array_is_asked_for_by_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", first=ramp(), second=ramp() + 1)
    assert read_npz(tmp_path / "x.npz", key="second").array[0, 0, 0] == 1
    with pytest.raises(ReadError, match=r"several arrays, none called ct.*first, second"):
        read(tmp_path / "x.npz")
    with pytest.raises(ReadError, match="no array 'third'"):
        read_npz(tmp_path / "x.npz", key="third")


def test_geometry_is_what_the_data_set_states(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ramp())
    scan = read(tmp_path / "x.npy")
    for stated in ({}, {"spacing_mm": (3.0, 1.0, 1.0)}, {"orientation": "SPL"}):
        with pytest.raises(ValueError, match=r"x\.npy: a bare array.*spacing_mm and orientation"):
            scan.restated(**stated)
    stated = scan.restated(spacing_mm=(3.0, 1.5, 1.0), orientation="IPR")
    assert stated.has_geometry and orientation_of(stated.affine) == "IPR"
    expected = [[1.0, 0, 0, 0], [0, -1.5, 0, 0], [0, 0, -3.0, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(stated.affine, expected)
    assert np.isfinite(resampled_affine(stated, "SPL", (3, 4, 5))).all()


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (exec, ("raise SystemExit('code of a file was run')",))


def evil_npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Evil()], dtype=object), allow_pickle=True)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def lying(claim: bytes) -> bytes:
    data, old, new = npy(ramp()), b"(3, 4, 5), }", claim + b", }"
    assert data.count(old) == 1
    return data.replace(old + b" " * (len(new) - len(old)), new)


def npz(data: bytes, *, compress: bool = True) -> bytes:
    out = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("ct.npy", data)
    return out.getvalue()


def pt(value: object) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def with_nan() -> np.ndarray:
    array = ramp("float32")
    array[0, 0, :2] = np.nan, np.inf
    return array


NOISE = np.random.default_rng(0).integers(0, 255, (3, 30, 40), np.uint8)
DAMAGED = npz(npy(NOISE))[:2000] + b"XXXX" + npz(npy(NOISE))[2004:]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.npy", b"", "not a NumPy array"),
        ("x.npy", b"GARBAGE" * 9, "not a NumPy array"),
        ("x.npy", npy(ramp())[:-7], "truncated: 113 of 120"),
        ("x.npy", lying(b"(30000, 30000, 9000)"), "30000 x 30000 x 9000 numbers"),
        ("x.npy", lying(b"(3, 4, -5)"), "axes of length"),
        ("x.npy", evil_npy(), "Python objects is never loaded"),
        ("x.npy", npy(ramp()[0]), "4 x 5, expected one 3D volume"),
        ("x.npy", npy(np.stack([ramp(), ramp()])), "2 x 3 x 4 x 5, expected one 3D volume"),
        ("x.npy", npy(ramp("complex64")), "voxels are complex64"),
        ("x.npy", npy(with_nan()), "2 of 60 voxels are NaN or infinite"),
        ("x.npz", b"", "damaged NumPy archive"),
        ("x.npz", npz(evil_npy()), "Python objects is never loaded"),
        ("x.npz", npz(lying(b"(30000, 30000, 9000)")), "more than the file can hold"),
        ("x.npz", npz(lying(b"(3, 4, 6)")), "truncated: 120 of 144"),
        ("x.npz", npz(npy(ramp()))[:-30], "damaged NumPy archive"),
        ("x.npz", DAMAGED, "damaged NumPy archive"),
        ("x.pt", b"", "0 bytes"),
        ("x.pt", pickle.dumps(Evil()), "can be loaded safely"),
        ("x.pt", pt(Evil()), "can be loaded safely"),
        ("x.pt", pt({"a": torch.zeros(1)}), "holds a dict"),
        ("x.pt", pt(torch.zeros(1, 1, 1).expand(9000, 9000, 9000)), "fewer numbers than that"),
        ("x.pt", pt(torch.zeros(2, 2, 2, dtype=torch.bfloat16)), "bfloat16 are not supported"),
        ("x.pt", npz(bytes(10_000_000)), "more than it can"),
        ("x.pt", pt(torch.zeros(4, 4, 4))[:-99], "can be loaded safely"),
    ],
)
def test_damaged_or_dangerous_files_are_refused(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ReadError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
