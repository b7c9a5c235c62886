"""What is in an image is read once, by as many processes as there are cores, and is the same either way."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lvlm_va.vision import measures, scenes
from lvlm_va.vision.scenes import read_scenes, seen


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def image(seed: int, side: int = 100) -> NDArray[np.uint8]:
    drawn = np.random.default_rng(seed).integers(0, 30, (side, side, 3), dtype=np.uint8)
    drawn[: side // 6, : side // 6] = 200
    drawn[side // 3 : side // 2, side // 3 : side // 2] = (250, 40 * seed % 250, 40)
    return drawn


def same(one: tuple, other: tuple) -> bool:
    (scene, measured), (again, measured_again) = one, other
    regions = list(zip(scene.regions, again.regions, strict=True))
    return (
        measured == measured_again
        and scene.photographic == again.photographic
        and all((a.role, a.letters) == (b.role, b.letters) for a, b in regions)
        and all(np.array_equal(a.mask, b.mask) for a, b in regions)
    )


def test_what_was_read_is_kept_to_the_bit(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as now:
        now.setattr(scenes, "read_letters", lambda image: ())
        first = seen(image(0))
        now.setattr(scenes, "see", None)  # nothing is seen again
        assert same(first, seen(image(0)))
    assert first[1] == tuple(measures.measure(first[0], region) for region in first[0].regions)
    [file] = cache.rglob("*.npz")
    file.write_bytes(b"damaged")
    monkeypatch.setattr(scenes, "read_letters", lambda image: ())
    assert same(first, seen(image(0)))


def test_an_image_too_small_for_letters_leaves_no_file(cache: Path) -> None:
    assert len(seen(image(1, side=40))[0].regions) > 1
    read_scenes([image(n, side=40) for n in range(50)])
    assert not cache.exists()


@pytest.mark.slow
def test_processes_read_what_one_reads_and_an_interruption_loses_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [image(n) for n in range(6)]
    monkeypatch.setattr(scenes, "_WORTH_IT", 1)
    monkeypatch.setattr(scenes, "usable_cores", lambda: 2)
    monkeypatch.setattr(scenes, "_AHEAD", 1)
    told: list[tuple[int, int]] = []

    def interrupted(done: int, total: int) -> None:
        told.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_scenes(images, interrupted)
    [(done, total)] = told
    assert total == 6
    kept = [one for one in images if scenes._file(one).exists()]
    assert done <= len(kept) < 6
    by_processes = [seen(one) for one in kept]
    monkeypatch.setenv("LVLM_VA_CACHE", str(cache / "other"))
    assert all(same(one, seen(alone)) for one, alone in zip(by_processes, kept, strict=True))


def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise scenes.BrokenExecutor

    monkeypatch.setattr(scenes, "_WORTH_IT", 1)
    monkeypatch.setattr(scenes, "usable_cores", lambda: 2)
    monkeypatch.setattr(scenes, "_by_processes", broken)
    notes: list[str] = []
    read_scenes([image(0)], note=notes.append)
    assert "ended by itself" in notes[0]
