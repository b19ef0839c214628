from pathlib import Path

import numpy as np
import pytest

from medvlp.data.cache import VolumeCache


def noisy(shape: tuple[int, ...], dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(0).normal(0, 50, shape).astype(dtype)


@pytest.fixture
def cache(tmp_path: Path) -> VolumeCache:
    return VolumeCache(tmp_path / "volumes")


@pytest.mark.parametrize("dtype", ["int16", "float16", "float32", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(3, 5, 7), (40, 70, 90), (2, 3, 4, 5), (300,), (0, 4, 4)])
def test_what_is_written_is_read(cache: VolumeCache, shape: tuple[int, ...], dtype: str) -> None:
    array = noisy(shape, dtype)
    cache.write("a scan", array, {"shape": list(shape)})
    stored = cache.read("a scan")
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, array)
    assert cache.shape("a scan") == shape
    cache.check("a scan")


def test_every_region_is_that_of_the_array(cache: VolumeCache) -> None:
    array = noisy((37, 130, 150))
    cache.write("scan", array, {})
    generator = np.random.default_rng(1)
    for _ in range(30):
        ends = [sorted(generator.integers(0, length + 1, 2).tolist()) for length in array.shape]
        region = tuple(slice(*pair) for pair in ends)
        np.testing.assert_array_equal(cache.read("scan", region), array[region])
    np.testing.assert_array_equal(cache.read("scan", (slice(3, 5),)), array[3:5])
    with pytest.raises(ValueError, match="has steps"):
        cache.read("scan", (slice(0, 10, 2), slice(None), slice(None)))


def test_reading_into_memory_that_is_there(cache: VolumeCache) -> None:
    array = noisy((6, 8, 10), "float16")
    cache.write("scan", array, {})
    region = (slice(1, 5), slice(0, 8), slice(2, 9))
    together, apart = np.zeros((9, 8, 7), np.float16), np.zeros((4, 20, 20), np.float16)
    for out in (together[3:7], apart[:, 5:13, 6:13]):
        assert cache.read("scan", region, out=out) is out
        np.testing.assert_array_equal(out, array[region])
    assert not together[:3].any() and not together[7:].any()
    assert np.count_nonzero(apart) == np.count_nonzero(array[region])


@pytest.mark.parametrize("out", [np.zeros((4, 8, 7), np.float32), np.zeros((4, 8, 8), np.float16)])
def test_memory_that_does_not_fit_is_refused(cache: VolumeCache, out: np.ndarray) -> None:
    cache.write("scan", noisy((6, 8, 10), "float16"), {})
    with pytest.raises(ValueError, match=r"image is \(4, 8, 7\) float16, and is to be read into"):
        cache.read("scan", (slice(1, 5), slice(0, 8), slice(2, 9)), out=out)


def test_the_same_scan_makes_the_same_file(tmp_path: Path) -> None:
    contents = set()
    for name in ("a", "b"):
        cache = VolumeCache(tmp_path / name)
        cache.write("scan", noisy((20, 70, 80)), {"b": 1, "a": [2.5, None]})
        contents.add(cache.path_of("scan").read_bytes())
    assert len(contents) == 1


def test_noise_is_stored_in_fewer_bytes_than_gzip_needs(cache: VolumeCache) -> None:
    import gzip

    array = noisy((24, 256, 256))
    cache.write("scan", array, {})
    assert cache.path_of("scan").stat().st_size < len(gzip.compress(array.tobytes(), 6))


def test_no_flipped_bit_goes_unnoticed(cache: VolumeCache) -> None:
    array = noisy((10, 40, 50))
    cache.write("scan", array, {})
    path = cache.path_of("scan")
    sound, generator = path.read_bytes(), np.random.default_rng(2)
    for position in generator.integers(0, len(sound), 60).tolist():
        damaged = bytearray(sound)
        damaged[position] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            cache.check("scan")
        except ValueError:
            continue
        # else it was a bit that means nothing to the reader
        np.testing.assert_array_equal(cache.read("scan"), array)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_damaged(cache: VolumeCache, share: float) -> None:
    cache.write("scan", noisy((10, 40, 50)), {})
    path = cache.path_of("scan")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"scan\) is damaged; delete it and run"):
        cache.check("scan")


def test_a_scan_that_was_never_prepared(cache: VolumeCache) -> None:
    for ask in (cache.read, cache.check, cache.shape):
        with pytest.raises(FileNotFoundError, match="image of scan is not in the cache"):
            ask("scan")
    assert cache.facts("scan") is None
