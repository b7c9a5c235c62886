"""DICOM images against pydicom's own functions, Pillow's decoders and plain arithmetic."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

import lvlm_va
from lvlm_va.data.reading import is_image, read_image
from lvlm_va.errors import DataError
from parts import class_folders
from test_reading import DEEP, GREY, RAMP, RGB, dicom

SIGNED = (RAMP.astype(np.int32) * 20 - 1500).astype(np.int16)


def range_of(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return (values - values.min()) / (values.max() - values.min())


def palette(
    tables: list[np.ndarray], first: int = 0, bits: int = 16, segmented: bool = False, **tags: Any
) -> dict[str, Any]:
    tags = dict(tags)
    n = tags.pop("n", len(tables[0]))
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [n % 65536, first, bits]
        name = f"{'Segmented' * segmented}{colour}PaletteColorLookupTableData"
        tags[name] = table.tobytes() + b"\0" * (len(table.tobytes()) % 2)
    return tags


BYTES = np.arange(256)
CURVES = [BYTES, 255 - BYTES, (BYTES * 7) % 256]  # three tables of bytes


@pytest.mark.parametrize(
    ("form", "bits"), [("bytes", 8), ("low", 16), ("low", 8), ("high", 16), ("repeated", 16), ("full", 16)]
)
def test_palettes(tmp_path: Path, form: str, bits: int) -> None:
    """16-bit entries may hold 8 bits in their lower half, their upper one, or both."""
    tables = {
        "bytes": [c.astype(np.uint8) for c in CURVES],
        "low": [c.astype(np.uint16) for c in CURVES],
        "high": [(c << 8).astype(np.uint16) for c in CURVES],
        "repeated": [(c * 257).astype(np.uint16) for c in CURVES],
        "full": [(c * 257 - 3 * (c > 0)).astype(np.uint16) for c in CURVES],
    }[form]
    path = dicom(tmp_path / "a.dcm", GREY, "PALETTE COLOR", **palette(tables, bits=bits))
    read = read_image(path)
    expected = np.stack([c[GREY] for c in CURVES], axis=2)
    assert np.abs(read.astype(int) - expected).max() <= (form == "full")
    record = pydicom.dcmread(path)
    looked_up = apply_color_lut(record.pixel_array, record)
    shift = 8 if int(looked_up.max()) > 255 else 0
    np.testing.assert_array_equal(read, looked_up >> shift)


@pytest.mark.parametrize(("stored", "first"), [(RAMP + 40, 100), (SIGNED, -300)])
def test_values_outside_a_palette_have_its_ends(tmp_path: Path, stored: np.ndarray, first: int) -> None:
    tables = [c[:77].astype(np.uint8) for c in CURVES]
    read = read_image(dicom(tmp_path / "a.dcm", stored, "PALETTE COLOR", **palette(tables, first, bits=8)))
    index = np.clip(stored.astype(int) - first, 0, 76)
    np.testing.assert_array_equal(read, np.stack([c[index] for c in CURVES], axis=2))


def test_long_palettes_of_bytes(tmp_path: Path) -> None:
    tables = [
        (np.arange(4096) // 16).astype(np.uint8),
        np.full(4096, 7, np.uint8),
        np.full(4096, 9, np.uint8),
    ]
    read = read_image(dicom(tmp_path / "a.dcm", RAMP * 17, "PALETTE COLOR", **palette(tables, bits=8)))
    np.testing.assert_array_equal(read[:, :, 0], RAMP * 17 // 16)
    twelve = [np.arange(4096, dtype=np.uint16)] * 3
    read = read_image(dicom(tmp_path / "b.dcm", RAMP * 17, "PALETTE COLOR", **palette(twelve, bits=12)))
    np.testing.assert_array_equal(read[:, :, 0], RAMP * 17 // 16)


def test_segmented_palettes(tmp_path: Path) -> None:
    words = np.array([0, 3, 0, 900, 60000, 1, 200, 100, 1, 53, 65535], dtype=np.uint16)
    path = dicom(tmp_path / "a.dcm", GREY, "PALETTE COLOR", **palette([words] * 3, n=256, segmented=True))
    record = pydicom.dcmread(path)
    np.testing.assert_array_equal(read_image(path), apply_color_lut(record.pixel_array, record) >> 8)
    bomb = np.array([0, 1, 5, *[2, 65535, 0, 0] * 9], dtype=np.uint16)
    path = dicom(tmp_path / "b.dcm", GREY, "PALETTE COLOR", **palette([bomb] * 3, n=256, segmented=True))
    with pytest.raises(DataError, match="repeats itself"):
        read_image(path)


def test_palettes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="without a red palette"):
        read_image(dicom(tmp_path / "a.dcm", GREY, "PALETTE COLOR"))
    short = palette([c[:100].astype(np.uint8) for c in CURVES], n=256, bits=8)
    with pytest.raises(DataError, match="100 entries, where 256 are announced"):
        read_image(dicom(tmp_path / "b.dcm", GREY, "PALETTE COLOR", **short))


def big_endian(path: Path) -> Path:
    """The file in the retired big-endian syntax, words swapped by hand."""
    record = pydicom.dcmread(path)
    record.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    names = [f"{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")] + ["PixelData"]
    for name in names:
        if name in record:
            words = np.frombuffer(record[name].value, dtype="<u2")
            record[name].value = words.astype(">u2").tobytes()
            record[name].VR = "OW"
    pydicom.dcmwrite(path, record, little_endian=False, implicit_vr=False, force_encoding=True)
    return path


@pytest.mark.parametrize("entries", [np.uint8, np.uint16])
def test_big_endian_files(tmp_path: Path, entries: type) -> None:
    np.testing.assert_allclose(
        read_image(big_endian(dicom(tmp_path / "a.dcm", DEEP))), range_of(DEEP), atol=1e-6
    )
    scale = 256 if entries is np.uint16 else 1  # bytes in the upper half: read backwards, they seem small
    tables = [(c * scale).astype(entries) for c in CURVES]
    path = dicom(tmp_path / "b.dcm", GREY, "PALETTE COLOR", **palette(tables, bits=16 if scale > 1 else 8))
    np.testing.assert_array_equal(read_image(big_endian(path)), np.stack([c[GREY] for c in CURVES], axis=2))


@pytest.mark.parametrize("bits", [5, 8, 10, 12, 16])
def test_colour_is_scaled_by_the_bits_stored(tmp_path: Path, bits: int) -> None:
    white = 2**bits - 1
    stored = (RGB.astype(np.uint32) * white // 255).astype(np.uint8 if bits < 8 else np.uint16)
    read = read_image(dicom(tmp_path / "a.dcm", stored, "RGB", BitsStored=bits, HighBit=bits - 1))
    assert read.dtype == np.uint8
    assert np.abs(read - stored * (255 / white)).max() <= 0.5


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"BitsStored": 12, "HighBit": 15}, "12 of 16 bits up to bit 15"),
        ({"PixelPresentation": "COLOR"}, "colours over grey"),
        ({"PhotometricInterpretation": "HSV"}, "unknown kind HSV"),
        ({"WindowCenter": 4, "WindowWidth": 5, "VOILUTFunction": "CUBIC"}, "window function CUBIC"),
    ],
)
def test_what_would_be_shown_wrongly_is_refused(tmp_path: Path, tags: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_image(dicom(tmp_path / "a.dcm", DEEP, **tags))


def lookup(table: np.ndarray, first: int, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(table), first, bits])
    item.add_new("LUTData", "US", table.tolist())
    item.ModalityLUTType = "US"
    return item


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_voi_tables(tmp_path: Path, bits: int) -> None:
    table = ((np.arange(256) ** 2) * (2**bits - 1) // 255**2).astype(np.uint16)
    path = dicom(tmp_path / "a.dcm", RAMP, VOILUTSequence=[lookup(table, 0, bits)])
    record = pydicom.dcmread(path)
    shown = apply_voi_lut(record.pixel_array, record)
    np.testing.assert_allclose(read_image(path), shown / (2**bits - 1), atol=1e-6)
    long = np.arange(4096) // 16  # bytes for values of 12 bits, among which pydicom's index wraps
    path = dicom(tmp_path / "b.dcm", RAMP * 17, VOILUTSequence=[lookup(long, 0, 8)])
    np.testing.assert_allclose(read_image(path), (RAMP * 17 // 16) / 255, atol=1e-6)


def test_modality_tables(tmp_path: Path) -> None:
    table = (np.arange(300) * 3 % 251).astype(np.uint16)
    path = dicom(tmp_path / "a.dcm", RAMP, ModalityLUTSequence=[lookup(table, 10, 16)])
    record = pydicom.dcmread(path)
    np.testing.assert_allclose(
        read_image(path), range_of(apply_modality_lut(record.pixel_array, record)), atol=1e-6
    )


def test_a_window_in_functional_groups(tmp_path: Path) -> None:
    """Where enhanced files keep rescale and window."""
    values, window, group = Dataset(), Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 2, -100, "US"
    window.WindowCenter, window.WindowWidth = 100, 200
    group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [values], [window]
    plain = dicom(
        tmp_path / "a.dcm", RAMP, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=100, WindowWidth=200
    )
    enhanced = dicom(tmp_path / "b.dcm", RAMP, NumberOfFrames=1, SharedFunctionalGroupsSequence=[group])
    np.testing.assert_array_equal(read_image(plain), read_image(enhanced))


@pytest.mark.parametrize("width", ["0", "-5", "0.5"])
def test_an_impossible_window_is_told_and_not_used(tmp_path: Path, width: str) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP, WindowCenter="3", WindowWidth=width)
    with pytest.warns(UserWarning, match=f"width {width}, which cannot be"):
        read = read_image(path)
    np.testing.assert_allclose(read, range_of(RAMP), atol=1e-6)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("tags", [{}, {"WindowCenter": 120, "WindowWidth": 300}])
@pytest.mark.parametrize(
    ("dtype", "value", "said", "limit"),
    [
        (np.int16, -2000, -2000, None),
        (np.uint16, 63536, 63536, None),
        (np.int16, -2000, -2100, -1900),
        (np.int16, -2000, -1900, -2100),
    ],
)
def test_padding_is_no_part_of_the_image(
    tmp_path: Path, kind: str, tags: dict[str, Any], dtype: type, value: int, said: int, limit: int | None
) -> None:
    """Its removal changes nothing else; itself it is black."""
    stored = RAMP.astype(dtype)
    stored[:, :5] = value
    tags = dict(tags, PixelPaddingValue=said)
    if limit is not None:
        tags["PixelPaddingRangeLimit"] = limit
    read = read_image(dicom(tmp_path / "a.dcm", stored, kind, **tags))
    assert (read[:, :5] == 0).all()
    tags.pop("PixelPaddingValue")
    tags.pop("PixelPaddingRangeLimit", None)
    whole = read_image(dicom(tmp_path / "b.dcm", np.ascontiguousarray(stored[:, 5:]), kind, **tags))
    np.testing.assert_array_equal(read[:, 5:], whole)


def test_nothing_but_padding(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing but padding"):
        read_image(dicom(tmp_path / "a.dcm", np.full((4, 4), 7, np.uint16), PixelPaddingValue=7))


@pytest.mark.parametrize(("name", "dtype"), [("Float", np.float32), ("DoubleFloat", np.float64)])
def test_floating_point_pixels(tmp_path: Path, name: str, dtype: type) -> None:
    def stored(pixels: np.ndarray, **tags: Any) -> Path:
        path = dicom(tmp_path / "a.dcm", GREY)
        record = pydicom.dcmread(path)
        for tag in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            delattr(record, tag)
        record.BitsAllocated = 8 * pixels.itemsize
        setattr(record, f"{name}PixelData", pixels.tobytes())
        for tag, value in tags.items():
            setattr(record, tag, value)
        record.save_as(path)
        return path

    values = (RAMP / 7 - 3).astype(dtype)
    np.testing.assert_allclose(read_image(stored(values)), range_of(values), atol=1e-6)
    padded = values.copy()
    padded[:, :5] = -1e6
    read = read_image(stored(padded, **{f"{name}PixelPaddingValue": -1e6}))
    assert (read[:, :5] == 0).all()
    np.testing.assert_allclose(read[:, 5:], range_of(values[:, 5:]), atol=1e-6)
    for wrong in (np.nan, np.inf):
        values[3, 3] = wrong
        with pytest.raises(DataError, match="no numbers"):
            read_image(stored(values))


def without_preamble(path: Path, *, meta: bool) -> Path:
    content = path.read_bytes()
    assert content[128:132] == b"DICM"
    skipped = 132 if meta else 144 + struct.unpack("<I", content[140:144])[0]
    path.write_bytes(content[skipped:])
    return path


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("name", ["a.dcm", "IM_0001"])
def test_files_without_a_preamble(tmp_path: Path, meta: bool, name: str) -> None:
    path = without_preamble(dicom(tmp_path / name, DEEP), meta=meta)
    assert is_image(path)
    np.testing.assert_allclose(read_image(path), range_of(DEEP), atol=1e-6)
    record = pydicom.dcmread(dicom(tmp_path / name, DEEP))
    record.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    record.save_as(path, implicit_vr=True, little_endian=True)
    np.testing.assert_allclose(read_image(without_preamble(path, meta=meta)), range_of(DEEP), atol=1e-6)


def test_scanners_names_in_class_folders(tmp_path: Path) -> None:
    """By their first bytes; a text file beside them stays what it is."""
    class_folders(tmp_path / "d", 8)
    for n, name in enumerate(("IM_0001", "IM_0002.ima", "1.2.840.3")):
        dicom(tmp_path / "d" / "nut" / name, RAMP * (n + 2))
    for name in ("notes", "notes.txt", "08"):
        (tmp_path / "d" / "nut" / name).write_text("\x08 is not an image")
    splits = lvlm_va.read_folder(tmp_path / "d", size=8, validation=0, test=0)
    ids = set(splits.train.ids)
    assert {"nut/IM_0001", "nut/IM_0002.ima", "nut/1.2.840.3"} <= ids
    assert set(splits.set_aside) == {"nut/notes", "nut/notes.txt", "nut/08"}


def test_what_is_no_dicom_file(tmp_path: Path) -> None:
    for content in (b"not an image", b"", bytes(500), b"\x08\0\x05\0CS\x0a\0" + bytes(300)):
        (tmp_path / "a.dcm").write_bytes(content)
        with pytest.raises(DataError, match="cannot be decoded"):
            read_image(tmp_path / "a.dcm")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2000), st.integers(0, 255))
def test_damage_is_told(tmp_path: Path, position: int, byte: int) -> None:
    """A changed byte gives an image or a `DataError`, nothing else."""
    content = bytearray(dicom(tmp_path / "a.dcm", DEEP, PixelPaddingValue=3).read_bytes())
    content[position % len(content)] = byte
    (tmp_path / "b.dcm").write_bytes(content)
    try:
        read = read_image(tmp_path / "b.dcm")
    except DataError:
        return
    except UserWarning:  # as errors in tests; `decode` keeps them
        return
    assert np.isfinite(read).all()
    assert read.min() >= 0
    assert read.dtype == np.uint8 or read.max() <= 1


def encapsulated(path: Path, like: np.ndarray, kind: str, frame: bytes, syntax: str, **tags: Any) -> Path:
    record = pydicom.dcmread(dicom(path, like, kind, **tags))
    record.file_meta.TransferSyntaxUID = syntax
    record.PixelData = encapsulate([frame])
    record["PixelData"].is_undefined_length, record["PixelData"].VR = True, "OB"
    record.save_as(path, enforce_file_format=True)
    return path


COLOURS = np.stack(np.broadcast_arrays(*np.ogrid[0:200:5, 0:240:5], 90), axis=2).astype(np.uint8)
ADOBE = b"\xff\xee\x00\x0eAdobe\x00d\x00\x00\x00\x00\x01"


@pytest.mark.filterwarnings("ignore:The .0028,0004. 'Photometric")
@pytest.mark.parametrize("kind", ["YBR_FULL", "YBR_FULL_422", "RGB"])
@pytest.mark.parametrize("form", ["jfif", "adobe", "rgb"])
def test_jpeg_in_colour(tmp_path: Path, kind: str, form: str) -> None:
    """Whatever the file says of its colours: as Pillow reads the JPEG inside."""
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, "JPEG", quality=98, subsampling=0, keep_rgb=form == "rgb")
    frame = file.getvalue()
    if form == "adobe":
        frame = frame[:2] + ADOBE + frame[2:]
    path = encapsulated(tmp_path / "a.dcm", COLOURS, kind, frame, pydicom.uid.JPEGBaseline8Bit)
    expected = np.asarray(Image.open(io.BytesIO(frame)).convert("RGB")).astype(int)
    assert np.abs(expected - COLOURS).mean() < 1
    assert np.abs(read_image(path) - expected).max() <= 3


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        (pydicom.uid.JPEGLossless, "JPEG_LOSSLESS_P14"),
        (pydicom.uid.JPEGLosslessSV1, "JPEG_LOSSLESS_P14_SV1"),
        (pydicom.uid.JPEGLSLossless, "JPEG_LS"),
    ],
)
@pytest.mark.parametrize("stored", [GREY, RAMP * 17, DEEP, RGB], ids=["8", "12", "16", "rgb"])
def test_the_syntaxes_of_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: pydicom.uid.UID, name: str, stored: np.ndarray
) -> None:
    gdcm = pytest.importorskip("gdcm", reason="python-gdcm is not installed", exc_type=ImportError)
    kind = "RGB" if stored.ndim == 3 else "MONOCHROME2"
    plain, compressed = tmp_path / "plain.dcm", tmp_path / "compressed.dcm"
    bits = 12 if stored.max() < 4096 and stored.max() > 255 else 8 * stored.itemsize
    dicom(plain, stored, kind, BitsStored=bits, HighBit=bits - 1)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(compressed))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(compressed).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_image(compressed), read_image(plain))


def test_compression_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.dcm"
    encapsulated(path, GREY, "MONOCHROME2", b"\0\0", pydicom.uid.MPEG2MPML)
    with pytest.raises(DataError, match=r"MPEG2 .*cannot be read"):
        read_image(path)
    encapsulated(path, GREY, "MONOCHROME2", b"\0\0", pydicom.uid.JPEGLSLossless)
    decoder = type(pydicom.pixels.get_decoder(pydicom.uid.JPEGLSLossless))
    monkeypatch.setattr(decoder, "is_available", property(lambda _: False))
    with pytest.raises(DataError, match=r"JPEG-LS .*python-gdcm: pip install 'lvlm-va\[medical\]'"):
        read_image(path)


def test_deflated_files_are_read(tmp_path: Path) -> None:
    plain = dicom(tmp_path / "a.dcm", GREY)
    record = pydicom.dcmread(plain)
    record.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    record.save_as(deflated := tmp_path / "b.dcm")
    np.testing.assert_array_equal(read_image(deflated), read_image(plain))
    deflated.write_bytes(deflated.read_bytes()[:-20])
    with pytest.raises(DataError):
        read_image(deflated)


def test_deflated_files_are_refused_before_they_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = pydicom.dcmread(dicom(tmp_path / "a.dcm", GREY))
    record.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    record.add_new((0x0009, 0x0010), "LO", "somebody's")
    record.add_new((0x0009, 0x1001), "OB", bytes(3 << 20))
    record.save_as(path := tmp_path / "b.dcm")
    assert path.stat().st_size < 1 << 16
    monkeypatch.setattr("lvlm_va.data.dicom._MAX_INFLATED", 2 << 20)
    monkeypatch.setattr(pydicom, "dcmread", lambda *_, **__: pytest.fail("inflated whole"))
    with pytest.raises(DataError, match="deflated DICOM file that grows beyond 2 MiB"):
        read_image(path)


def test_size_is_bounded_before_decoding(tmp_path: Path) -> None:
    path = encapsulated(tmp_path / "a.dcm", GREY, "MONOCHROME2", b"\0\0", pydicom.uid.RLELossless)
    record = pydicom.dcmread(path)
    record.Rows = record.Columns = 65535
    record.save_as(path)
    with pytest.raises(DataError, match=r"65535×65535 = 4,294,836,225 pixels are more than data\.max_pixels"):
        read_image(path)
    with pytest.raises(DataError, match=r"20×12 = 240 pixels are more than data\.max_pixels = 239"):
        read_image(dicom(tmp_path / "b.dcm", GREY), max_pixels=239)
