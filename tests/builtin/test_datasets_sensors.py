"""Sensor, sound and image-tree sets: the real readers on small files in the original format."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from aflctl.builtin.datasets.crema_d import CremaD
from aflctl.builtin.datasets.harbox import Harbox
from aflctl.builtin.datasets.imu import Imu
from aflctl.builtin.datasets.sound import log_mel, mel_bands
from aflctl.builtin.datasets.tiny_imagenet import TinyImagenet
from aflctl.builtin.datasets.uci_har import AXES, UciHar
from aflctl.data import FileDataset
from aflctl.data.archive import UnsafeArchive
from aflctl.data.survey import survey
from aflctl.errors import DataMissing, EnvironmentProblem

DICE = np.random.default_rng(3)


def prepared(dataset: FileDataset, cache: Path):
    dataset.prepare(cache, download=False)
    return dataset.open(cache)


def raw(cache: Path, key: str) -> Path:
    folder = cache / key / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def rows(path: Path, values: np.ndarray, separator: str = " ") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, values, delimiter=separator, fmt="%.8e")


# ---- UCI HAR ----
def write_har(folder: Path, n: int = 12) -> dict[str, np.ndarray]:
    signals = {}
    for part in ("train", "test"):
        for axis in AXES:
            signals[f"{axis}_{part}"] = DICE.normal(size=(n, 128))
            rows(folder / part / "Inertial Signals" / f"{axis}_{part}.txt", signals[f"{axis}_{part}"])
        rows(folder / part / f"y_{part}.txt", np.arange(n) % 6 + 1)
        rows(folder / part / f"subject_{part}.txt", np.arange(n) % 3 + (1 if part == "train" else 10))
    return signals


def test_uci_har_channels_are_axes_not_mixtures(tmp_path: Path) -> None:
    signals = write_har(raw(tmp_path, "uci-har"))
    source = prepared(UciHar(), tmp_path)
    assert source.train.x[0].shape == (12, 9, 128)
    for channel, axis in enumerate(AXES):
        np.testing.assert_allclose(source.train.x[0][5, channel], signals[f"{axis}_train"][5], rtol=1e-6)
    assert source.train.y.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert set(source.naturals["subject"].tolist()) == {1, 2, 3}
    x = source.train.x[0].double()
    np.testing.assert_allclose(source.spec.modalities[0].mean, x.mean((0, 2)), atol=1e-6)


def test_uci_har_as_two_inputs_and_other_splits(tmp_path: Path) -> None:
    write_har(raw(tmp_path, "uci-har"), 36)
    joint, split = prepared(UciHar(), tmp_path), UciHar(modalities="split").open(tmp_path)
    assert [m.name for m in split.spec.modalities] == ["accelerometer", "gyroscope"]
    assert torch.equal(split.train.x[1], joint.train.x[0][:, 3:6])
    windows = prepared(UciHar(test="windows"), tmp_path)
    assert len(windows.train) + len(windows.test) == 72
    people = prepared(UciHar(test="subjects"), tmp_path)
    assert set(people.naturals["subject"].tolist()) == {1, 2, 3, 10, 12}


def test_uci_har_rows_of_different_length_are_named(tmp_path: Path) -> None:
    folder = raw(tmp_path, "uci-har")
    write_har(folder)
    path = folder / "train" / "Inertial Signals" / "body_acc_x_train.txt"
    path.write_text(path.read_text()[:-200] + "\n")
    with pytest.raises(EnvironmentProblem, match=r"body_acc_x_train\.txt, row 12: \d+ values, the first row has 128"):
        UciHar().prepare(tmp_path, download=False)


@pytest.mark.realdata
def test_real_har_channel_means(real_data: Path, tmp_path: Path) -> None:
    name = "uci_har_inertial_f16.npz"
    shutil.copyfile(real_data / "uci_har" / name, raw(tmp_path, "uci-har") / name)
    source = prepared(UciHar(), tmp_path)
    mean = source.spec.modalities[0].mean
    assert abs(mean[0]) < 0.01  # body acceleration
    assert 0.7 < mean[6] < 0.9  # total acceleration holds gravity
    # the published split: 7,352 windows of 21 people, 2,947 of 9 others, with these classes
    assert len(np.unique(source.naturals["subject"])) == 21
    assert not {2, 4, 9, 10, 12, 13, 18, 20, 24} & set(source.naturals["subject"].tolist())
    assert source.test.y.bincount().tolist() == [496, 471, 420, 491, 532, 537]
    assert survey(UciHar(), tmp_path).differences == []
    assert len(np.unique(prepared(UciHar(test="windows"), tmp_path).naturals["subject"])) == 30


def test_uci_har_from_the_site_s_archive_in_an_archive(tmp_path: Path) -> None:
    write_har(tmp_path / "UCI HAR Dataset")
    inner = tmp_path / "UCI HAR Dataset.zip"
    with zipfile.ZipFile(inner, "w") as out:
        for path in sorted((tmp_path / "UCI HAR Dataset").rglob("*.txt")):
            out.write(path, path.relative_to(tmp_path))
    outer = raw(tmp_path / "cache", "uci-har") / "human+activity+recognition+using+smartphones.zip"
    with zipfile.ZipFile(outer, "w") as out:
        out.write(inner, inner.name)
    assert len(prepared(UciHar(), tmp_path / "cache").train) == 12


# ---- IMU ----
def test_imu_time_major_rows_absent_classes_and_sites(tmp_path: Path) -> None:
    folder = raw(tmp_path, "imu")
    values = DICE.random((8, 900))
    rows(folder / "hsh_1_walk_nor.txt", values, ",")
    rows(folder / "mmw_3_down_nor.txt", DICE.random((4, 900)), ",")
    source = prepared(Imu(), tmp_path)
    assert (len(source.train), len(source.test)) == (9, 3)
    # value at time t and axis a of a row is column 9 t + a
    np.testing.assert_allclose(source.train.x[0][0, 4, 7], values[0, 9 * 7 + 4], rtol=1e-6)
    assert set(source.train.y.tolist()) == {0, 2}
    assert set(source.naturals["user"].tolist()) == {0, 6}
    assert set(source.naturals["site"].tolist()) == {0, 1}


@pytest.mark.parametrize("separator", [" ", ",", ", "])
def test_imu_values_apart_by_blanks_or_commas(separator: str, tmp_path: Path) -> None:
    rows(raw(tmp_path, "imu") / "hsh_1_walk_nor.txt", DICE.random((8, 900)), separator)
    assert len(prepared(Imu(), tmp_path).train) == 6


def test_imu_incomplete_windows_are_refused(tmp_path: Path) -> None:
    rows(raw(tmp_path, "imu") / "hsh_1_walk_nor.txt", DICE.random((2, 899)), ",")
    with pytest.raises(EnvironmentProblem, match=r"hsh_1_walk_nor\.txt: 1798 values"):
        Imu().prepare(tmp_path, download=False)


def test_imu_from_its_archive_whatever_folder_it_has(tmp_path: Path) -> None:
    rows(tmp_path / "hsh_2_up_nor.txt", DICE.random((8, 900)), ",")
    with zipfile.ZipFile(raw(tmp_path, "imu") / "imu_dataset.zip", "w") as out:
        out.write(tmp_path / "hsh_2_up_nor.txt", "some/folder/hsh_2_up_nor.txt")
    assert set(prepared(Imu(), tmp_path).naturals["user"].tolist()) == {1}


@pytest.mark.realdata
def test_real_imu_windows_are_time_major_and_scaled(real_data: Path, tmp_path: Path) -> None:
    real = real_data / "imu_sample" / "server_x_test.txt"  # of nobody known; here as if one user had walked
    shutil.copyfile(real, raw(tmp_path, "imu") / "hsh_1_walk_nor.txt")
    source = prepared(Imu(), tmp_path)
    assert len(source.train) + len(source.test) == 70
    x = torch.cat([source.train.x[0], source.test.x[0]])
    assert (float(x.min()), float(x.max())) == (0.0, 1.0)
    assert abs(float(x.mean()) - 0.491) < 5e-4  # DATASETS.md 3.10
    # neighbours in time resemble each other more than neighbouring axes do
    assert x.diff(dim=2).abs().mean() < x.diff(dim=1).abs().mean()


# ---- HARBox ----
def harbox_rows(n: int) -> np.ndarray:
    out = DICE.normal(size=(n, 10))
    out[:, 0] = 1.6e12 + np.arange(n) * 20
    out[:, 7:] *= 200
    return out


def write_harbox(folder: Path) -> np.ndarray:
    first = harbox_rows(450)  # 4 windows and a tail of 50 rows
    rows(folder / "1" / "Call_train.txt", first)
    rows(folder / "1" / "typing_train.txt", harbox_rows(400))
    rows(folder / "103" / "Walk_train.txt", harbox_rows(800))
    (folder / "0").mkdir()
    (folder / "0" / "Call_train.txt").write_text("")
    return first


def test_harbox_drops_the_time_cuts_the_tail_and_accepts_absent_classes(tmp_path: Path) -> None:
    first = write_harbox(raw(tmp_path, "harbox"))
    source = prepared(Harbox(scale="raw"), tmp_path)
    assert (len(source.train), len(source.test)) == (12, 4)
    np.testing.assert_allclose(source.train.x[0][1, 8, 3], first[103, 9], rtol=1e-6)
    assert set(source.naturals["user"].tolist()) == {0, 102}
    assert source.train.y.bincount(minlength=5).tolist() == [3, 0, 3, 6, 0]


def test_harbox_from_its_archive_whatever_folder_it_has(tmp_path: Path) -> None:
    write_harbox(tmp_path / "large")
    with zipfile.ZipFile(raw(tmp_path, "harbox") / "large_scale_HARBox.zip", "w") as out:
        for path in sorted((tmp_path / "large").rglob("*.txt")):
            out.write(path, Path("large_scale_HARBox") / path.relative_to(tmp_path / "large"))
    assert len(prepared(Harbox(), tmp_path).train) == 12


def test_harbox_is_standardised_per_client_and_channel(tmp_path: Path) -> None:
    write_harbox(raw(tmp_path, "harbox"))
    source = prepared(Harbox(), tmp_path)
    for user in (0, 102):
        mine = source.train.x[0][torch.from_numpy(source.naturals["user"] == user)]
        assert mine.mean((0, 2)).abs().max() < 1e-4
        assert (mine.std((0, 2)) - 1).abs().max() < 1e-2


def test_harbox_text_that_is_no_number_is_named(tmp_path: Path) -> None:
    folder = raw(tmp_path, "harbox")
    (folder / "7").mkdir()
    (folder / "7" / "Hop_train.txt").write_text("1 2 3 4 5 6 7 8 9 ten\n")
    with pytest.raises(EnvironmentProblem, match=r"Hop_train\.txt, row 1: 'ten' is no number"):
        Harbox().prepare(tmp_path, download=False)


@pytest.mark.realdata
def test_real_harbox_rows_have_a_time_and_nine_axes(real_data: Path) -> None:
    from aflctl.builtin.datasets.sensors import numbers

    assert numbers(next((real_data / "harbox_sample").glob("*.txt"))).shape[1] == 10


# ---- Tiny ImageNet ----
def picture(path: Path, mode: str, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode == "L" else (value, 0, 0)
    Image.new(mode, (64, 64), colour).save(path, "JPEG", quality=95)


def write_tree(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "wnids.txt").write_text("n02\nn01\n")  # the file's order is not the class order
    (root / "words.txt").write_text("n01\tgoldfish, Carassius\nn02\tfrog\n")
    for wnid, value in (("n01", 200), ("n02", 100)):
        picture(root / "train" / wnid / "images" / f"{wnid}_0.JPEG", "RGB", value)
        picture(root / "train" / wnid / "images" / f"{wnid}_1.JPEG", "L", value)
    for i in range(2):
        picture(root / "val" / "images" / f"val_{i}.JPEG", "RGB", 50)
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n")


def test_tiny_imagenet_labels_grey_images_and_order(tmp_path: Path) -> None:
    write_tree(raw(tmp_path, "tiny-imagenet"))
    source = prepared(TinyImagenet(), tmp_path)
    assert source.train.x[0].shape == (4, 3, 64, 64)
    assert source.train.x[0].dtype == torch.uint8
    assert source.train.y.tolist() == [0, 0, 1, 1]
    assert source.test.y.tolist() == [1, 0]  # from the annotation file
    assert source.spec.class_names == ("goldfish", "frog")
    assert (source.train.x[0][1, 0] == source.train.x[0][1, 2]).all()  # grey became RGB
    assert prepared(TinyImagenet(size=32), tmp_path).train.x[0].shape == (4, 3, 32, 32)


def test_tiny_imagenet_from_its_archive_and_a_hostile_one(tmp_path: Path) -> None:
    write_tree(tmp_path / "tiny-imagenet-200")
    archive = raw(tmp_path / "cache", "tiny-imagenet") / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted((tmp_path / "tiny-imagenet-200").rglob("*.*")):
            out.write(path, path.relative_to(tmp_path))
    assert len(prepared(TinyImagenet(), tmp_path / "cache").train) == 4
    hostile = raw(tmp_path / "bad", "tiny-imagenet") / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(hostile, "w") as out:
        out.writestr("tiny-imagenet-200/train/../../../evil", "x")
    with pytest.raises(UnsafeArchive, match="outside the target folder"):
        TinyImagenet().prepare(tmp_path / "bad", download=False)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    root = raw(tmp_path, "tiny-imagenet")
    write_tree(root)
    path = root / "train" / "n01" / "images" / "n01_0.JPEG"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(EnvironmentProblem, match=r"n01_0\.JPEG"):
        TinyImagenet().prepare(tmp_path, download=False)
    assert not list(tmp_path.rglob("*.safetensors*"))


# ---- CREMA-D ----
def tone(hertz: float, seconds: float = 1.0, rate: int = 16_000) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    return (np.sin(2 * np.pi * hertz * t) * 20_000).astype(np.int16)


def write_clips(root: Path) -> list[str]:
    names = [f"{actor}_DFA_{emotion}_XX" for actor in range(1001, 1006) for emotion in ("NEU", "ANG")]
    (root / "AudioWAV").mkdir(parents=True)
    for i, name in enumerate(names):
        wavfile.write(root / "AudioWAV" / f"{name}.wav", 16_000, tone(200 + 100 * i))
    return names


def test_log_mel_shape_and_a_tone_in_its_band() -> None:
    features = log_mel(tone(1000.0) / 32767)
    assert features.shape == (64, 94)
    band = int(mel_bands()[:, 64].argmax())  # bin 64 = 1000 Hz
    assert abs(int(features.mean(1).argmax()) - band) <= 1
    assert features.max() == 255


def test_crema_d_from_sound_with_unseen_actors(tmp_path: Path) -> None:
    root = raw(tmp_path, "crema-d")
    write_clips(root)
    wavfile.write(root / "AudioWAV" / "1001_ITS_SAD_XX.wav", 16_000, np.zeros(16_000, np.int16))
    (root / "AudioWAV" / "1002_ITS_SAD_XX.wav").write_bytes(b"RIFF")
    source = prepared(CremaD(), tmp_path)
    assert source.train.x[0].shape == (8, 1, 64, 94)
    assert source.train.y.tolist() == [5, 0] * 4  # sorted names: ANG before NEU
    assert source.naturals["actor"].tolist() == [1001, 1001, 1002, 1002, 1003, 1003, 1004, 1004]
    assert len(source.test) == 2


def test_crema_d_with_frames(tmp_path: Path) -> None:
    root = raw(tmp_path, "crema-d")
    for name in write_clips(root):
        for i in range(5):
            picture(root / "Frames" / name / f"{i}.jpg", "RGB", 40 * i)
    source = prepared(CremaD(video=True, side=16), tmp_path)
    assert [m.name for m in source.spec.modalities] == ["audio", "video"]
    video = source.train.x[1]
    assert video.shape == (8, 9, 16, 16)
    reds = video[0, ::3, 0, 0].tolist()
    assert all(abs(found - wanted) < 4 for found, wanted in zip(reds, (40, 80, 120)))


def test_crema_d_spectrogram_has_the_shape_of_afl_lib_s(tmp_path: Path) -> None:
    write_clips(raw(tmp_path, "crema-d"))
    source = prepared(CremaD(audio="spectrogram"), tmp_path)
    x = source.train.x[0]
    assert (x.shape, x.dtype) == ((8, 1, 257, 299), torch.float16)
    assert x.float().mean((1, 2, 3)).abs().max() < 1e-2
    assert (x.float().std((1, 2, 3)) - 1).abs().max() < 1e-2
    # 16,000 Hz / 512 = 31.25 Hz a bin: the first clip by name is 1001 ANG, a tone of 300 Hz
    assert abs(int(x[0, 0].float().mean(1).argmax()) * 31.25 - 300) < 32


def test_crema_d_frames_that_cannot_be_read_leave_the_clip_out(tmp_path: Path) -> None:
    root = raw(tmp_path, "crema-d")
    names = write_clips(root)
    for name in names:
        for i in range(5):
            picture(root / "Frames" / name / f"{i}.jpg", "RGB", 40 * i)
    (root / "Frames" / names[0] / "2.jpg").write_bytes(b"no picture")
    shutil.rmtree(root / "Frames" / names[1])
    dataset = CremaD(video=True, side=8)
    source = prepared(dataset, tmp_path)
    assert (len(source.train), len(source.test)) == (6, 2)
    left_out = survey(dataset, tmp_path).left_out
    assert [text.split(":")[0] for text in left_out] == sorted(names[:2])


def test_pointers_of_git_lfs_are_told_from_sound(tmp_path: Path) -> None:
    root = raw(tmp_path, "crema-d")
    write_clips(root)
    (root / "AudioWAV" / "1003_DFA_ANG_XX.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(EnvironmentProblem, match="is a pointer of Git LFS, not sound") as caught:
        CremaD().prepare(tmp_path, download=False)
    assert "git lfs pull" in (caught.value.hint or "")


def test_crema_d_frames_of_a_real_flv(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    root = raw(tmp_path, "crema-d")
    (root / "VideoFlash").mkdir()
    for name in write_clips(root):
        with av.open(str(root / "VideoFlash" / f"{name}.flv"), "w") as out:
            stream = out.add_stream("flv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for i in range(9):  # positions 2, 4 and 6 are taken
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 25 * i, np.uint8), format="rgb24")
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    video = prepared(CremaD(video=True, side=16), tmp_path).train.x[1]
    assert video.shape == (8, 9, 16, 16)
    assert all(abs(int(video[0, 3 * i, 8, 8]) - 50 * (i + 1)) < 6 for i in range(3))
    damaged = root / "VideoFlash" / "1001_DFA_ANG_XX.flv"
    damaged.write_bytes(damaged.read_bytes()[:20])
    dataset = CremaD(video=True, side=8)
    dataset.prepare(tmp_path, download=False)
    assert [text[:15] for text in survey(dataset, tmp_path).left_out] == ["1001_DFA_ANG_XX"]


def test_crema_d_without_a_decoder_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = raw(tmp_path, "crema-d")
    (root / "VideoFlash").mkdir()
    for name in write_clips(root):
        (root / "VideoFlash" / f"{name}.flv").write_bytes(b"FLV")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(EnvironmentProblem, match="needs a video decoder") as caught:
        CremaD(video=True).prepare(tmp_path, download=False)
    assert "pip install 'aflctl[video]'" in (caught.value.hint or "")


def test_crema_d_with_an_empty_folder_says_so(tmp_path: Path) -> None:
    (raw(tmp_path, "crema-d") / "AudioWAV").mkdir()
    with pytest.raises(EnvironmentProblem, match=r"AudioWAV holds no \.wav file"):
        CremaD().prepare(tmp_path, download=False)


def test_crema_d_without_sound_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataMissing) as caught:
        CremaD().prepare(tmp_path, download=False)
    assert "Git LFS" in (caught.value.hint or "")


@pytest.mark.realdata
def test_real_crema_d_features(real_data: Path, tmp_path: Path) -> None:
    name = "crema_d_logmel_64x94_uint8.npz"
    shutil.copyfile(real_data / "crema-d" / name, raw(tmp_path, "crema-d") / name)
    source = prepared(CremaD(), tmp_path)
    assert len(source.train) + len(source.test) == 7432
    assert len(np.unique(source.naturals["actor"])) == 73
