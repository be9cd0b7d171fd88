"""The kinds of files that `benchmarks/fuzz.py` damages: small examples of each, and what reads it."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile


@dataclass(frozen=True)
class Kind:
    """One kind of file: examples, the name it is given, and what reads it."""

    examples: Callable[[], list[bytes]]
    name: str
    read: Callable[[Path], object]
    tree: bool = False  # JSON: values are replaced too


def frame(dtype: type = np.uint16) -> np.ndarray:
    counts = np.random.default_rng(0).integers(100, 220, (24, 32))
    counts[10:13, 12:15] += 30
    return counts.astype(dtype)


def encoded(suffix: str, picture: np.ndarray) -> bytes:
    return cv2.imencode(suffix, picture)[1].tobytes()


def pictures(suffix: str, *dtypes: type) -> Callable[[], list[bytes]]:
    return lambda: [encoded(suffix, frame(dtype)) for dtype in dtypes]


def tiffs() -> list[bytes]:
    found = []
    for options in ({}, {"compression": "zlib"}, {"tile": (16, 16)}, {"rowsperstrip": 4}):
        for dtype in (np.uint8, np.uint16, np.float32):
            file = io.BytesIO()
            tifffile.imwrite(file, np.stack([frame(dtype)] * 2), **options)
            found.append(file.getvalue())
    return found


def arrays() -> list[bytes]:
    found = []
    for values in (frame(np.uint8), frame(np.float32), np.zeros(0), np.zeros((3, 4, 5))):
        file = io.BytesIO()
        np.save(file, values)
        found.append(file.getvalue())
    return found


def coco() -> list[bytes]:
    image = {"id": 1, "file_name": "a.png", "width": 32, "height": 24}
    points = [
        {"id": n, "image_id": 1, "category_id": 1, "num_keypoints": 1, "keypoints": [n, 3, 2]} for n in (1, 2)
    ]
    region = {"id": 3, "image_id": 1, "category_id": 1, "iscrowd": 1, "bbox": [1, 2, 5, 5]}
    content = {"images": [image], "annotations": [*points, region], "categories": [{"id": 1, "name": "t"}]}
    return [json.dumps(content).encode()]


def results() -> list[bytes]:
    found = [{"x": 3.5, "y": 4, "score": 0.9, "area": 3.0}]
    one = {"file": "a.png", "width": 32, "height": 24, "detections": found}
    return [json.dumps({"model": "m", "images": [one]}).encode()]


def recipes() -> list[bytes]:
    from importlib import resources

    folder = resources.files("dimpoint") / "recipes"
    return [item.read_bytes() for item in folder.iterdir() if item.name.endswith(".yaml")]


def lists() -> list[bytes]:
    return [b"a\nb\n", "a.png\r\nb.png\r\n".encode("utf-16"), b"\xef\xbb\xbfimages/a.png 1\n# b\n"]


def records() -> list[bytes]:
    from dimpoint.model.files import resolve_model
    from dimpoint.model.onnx_file import read_meta

    return [read_meta(resolve_model("spire-lite")).to_json().encode()]


def models() -> list[bytes]:
    from dimpoint.model.onnx_file import with_metadata

    entry = with_metadata(b"\x08\x0a\x12\x04test", "dimpoint", records()[0].decode(), Path("m.onnx"))
    return [entry, b"\x08\x0a"]


def stacks() -> list[bytes]:
    """NumPy archives and MATLAB files."""
    from scipy.io import savemat

    found = []
    for values in (frame(np.uint16), np.stack([frame(np.float32)] * 2)):
        archive, matlab = io.BytesIO(), io.BytesIO()
        np.savez_compressed(archive, frames=values)
        savemat(matlab, {"frames": values})
        found += [archive.getvalue(), matlab.getvalue()]
    return found


def fits() -> list[bytes]:
    cards = [
        "SIMPLE  = T",
        "BITPIX  = 16",
        "NAXIS   = 2",
        "NAXIS1  = 32",
        "NAXIS2  = 24",
        "BZERO   = 32768",
        "END",
    ]
    header = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    return [header + (frame() - 32768).astype(">i2").tobytes().ljust(2880, b"\0")]


def videos() -> list[bytes]:
    """Twelve frames of 64 x 48: MPEG-4 in MP4 and AVI, and lossless FFV1 of 16 bit in Matroska."""
    import av

    found = []
    for suffix, codec, pixels in (
        (".mp4", "mpeg4", "yuv420p"),
        (".avi", "mjpeg", "yuvj420p"),
        (".mkv", "ffv1", "gray16le"),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"v{suffix}"
            with av.open(str(path), "w") as container:
                stream = container.add_stream(codec, rate=25)
                stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
                for number in range(12):
                    counts = np.full((48, 64), 100 + number, np.uint16)
                    picture = av.VideoFrame.from_ndarray(counts, "gray16le")
                    container.mux(stream.encode(picture.reformat(format=pixels)))
                container.mux(stream.encode(None))
            found.append(path.read_bytes())
    return found


def other_labels() -> list[bytes]:
    """Labels as labelme, CVAT, Label Studio, VOC, YOLO and CSV files hold them."""
    from dimpoint.datasets.coco import PointImage
    from dimpoint.datasets.convert import FORMATS, write_labels

    images = [PointImage("a.png", 32, 24, np.array([[3.5, 4], [20, 11.25]], np.float32))]
    found = [b"file,x,y,width,height\na.png,3,4,5,6\na.png,13,4,5,6\n"]
    with tempfile.TemporaryDirectory() as folder:
        for kind in FORMATS:
            write_labels(kind, images, Path(folder) / kind)
            files = [Path(folder) / kind, *(Path(folder) / kind).rglob("*")]
            found += [path.read_bytes() for path in files if path.is_file()]
    return found


def tracks() -> list[bytes]:
    point = {"frame": 1, "time": 0.04, "x": 3.0, "y": 4.5, "vx": 0.1, "vy": 0, "score": 0.9, "measured": True}
    one = {"id": 1, "state": "confirmed", "points": [point, {**point, "frame": 2}]}
    content = {"source": "a.mp4", "model": "m", "frames": 3, "start": None, "tracks": [one], "notes": []}
    return [json.dumps(content).encode()]


def runs() -> list[bytes]:
    held = [{"name": "a", "sha256": "0" * 64}]
    sources = {"roots": ["."], "split": None, "reading": None}
    content = {"sources": sources, "data": {"set": {"frames": 1}}, "held_out": {"set": held}, "model": {}}
    return [json.dumps(content).encode()]


def weights() -> list[bytes]:
    """A small network's .safetensors model."""
    from dimpoint.model.checkpoint import save_model
    from dimpoint.model.record import parse_meta
    from dimpoint.networks import create

    options = {"widths": [4, 8], "depths": [1, 1]}
    meta = parse_meta(records()[0].decode(), "m").model_copy(update={"options": options})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        save_model(path, create("spire-lite", **options), meta)
        return [path.read_bytes()]


def stores() -> list[bytes]:
    """A labelling project's database."""
    from dimpoint.labelling.store import Labels, LabelStore, SourceFrame

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.db"
        store = LabelStore(path)
        store.add_frames([SourceFrame(f"f{n}", f"/f{n}.png", None, 1, 1) for n in range(4)])
        store.save(1, Labels(points=((3.0, 4.0),)), (24, 32))
        store.close()
        return [path.read_bytes()]


def journals() -> list[bytes]:
    """The journal of an unfinished `dimpoint detect`."""
    found = [{"x": 3.5, "y": 4, "score": 0.9, "area": 3.0}]
    entry = {"file": "a.png", "width": 32, "height": 24, "detections": found}
    line = {"input": ["a.png", 1, 2], "entry": entry, "picture": None}
    return ["".join(json.dumps(one) + "\n" for one in ({"settings": {}}, line, line)).encode()]


def whole_models() -> list[bytes]:
    """An ONNX model of one convolution with a right record."""
    from onnx import TensorProto, helper, numpy_helper

    from dimpoint.model.onnx_file import with_metadata

    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1, "H", "W"])
        for name in ("frame", "response")
    ]
    node = helper.make_node("Conv", ["frame", "w"], ["response"], strides=[2, 2], pads=[1, 1, 1, 1])
    kernel = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    graph = helper.make_graph([node], "g", [shapes[0]], [shapes[1]], [kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return [with_metadata(model.SerializeToString(), "dimpoint", records()[0].decode(), Path("m.onnx"))]


def read_picture(path: Path) -> None:
    from dimpoint.sources import frames_from

    for _ in frames_from(path):
        pass


def read_mask(path: Path) -> None:
    from dimpoint.datasets.masks import read_mask_file

    read_mask_file(path)


def read_coco(path: Path) -> None:
    from dimpoint.datasets.coco import read_points

    read_points(path)


def check_set(path: Path) -> None:
    from dimpoint.datasets.check import check_dataset

    picture = path.parent / "images" / "a.png"
    if not picture.is_file():
        picture.parent.mkdir(exist_ok=True)
        picture.write_bytes(encoded(".png", frame()))
    check_dataset(path.parent)


def read_results(path: Path) -> None:
    from dimpoint.inference.detection_files import read_detections

    for item in read_detections(path):
        item.to_csv()


def read_recipe(path: Path) -> None:
    from dimpoint.training.recipe import load_recipe

    load_recipe(str(path))


def read_split(path: Path) -> None:
    from dimpoint.datasets.lists import read_lines

    read_lines(path)


def read_record(path: Path) -> None:
    from dimpoint.model.record import parse_meta

    parse_meta(path.read_text("utf-8", "surrogateescape"), "m.onnx")


def read_model(path: Path) -> None:
    from dimpoint.model.onnx_file import read_meta

    read_meta(path)


def read_other_labels(path: Path) -> None:
    from dimpoint.datasets.formats import TITLES, read_labels
    from dimpoint.errors import DataError

    for kind in TITLES:
        try:
            read_labels(kind, path, lambda _: (24, 32))
        except DataError:
            continue


def import_labels(path: Path) -> None:
    """Into a labelling project with one frame, `a`."""
    from dimpoint.labelling import exchange
    from dimpoint.labelling.project import Project

    frames = path.parent / "frames"
    if not frames.is_dir():
        frames.mkdir()
        (frames / "a.png").write_bytes(encoded(".png", frame()))
    project = Project(path.parent / "project", [frames])
    try:
        exchange.import_labels(project, path, "fuzz")
    finally:
        project.close()


def read_track_file(path: Path) -> None:
    from dimpoint.tracking.result import read_tracks

    found = read_tracks(path)
    found.csv_text()
    found.mot_text()


def read_run(path: Path) -> None:
    from dimpoint.evaluation.truth import held_out_frames

    held_out_frames(path.parent)


def read_weights(path: Path) -> None:
    from dimpoint.model.checkpoint import load_model

    load_model(path)


def read_store(path: Path) -> None:
    from dimpoint.labelling.store import LabelStore

    for name in ("labels.db-wal", "labels.db-shm", "labels.db.damaged"):
        (path.parent / name).unlink(missing_ok=True)
    store = LabelStore(path)
    try:
        store.count()
        store.rows(0, 10)
        store.labelled()
        for number in (1, 2):
            store.labels(number)
            store.history(number)
    finally:
        store.close()


def resume_journal(path: Path) -> None:
    from dimpoint.inference.results import ResultsFolder

    results = ResultsFolder(path.parent, {})
    try:
        results.resume()
        results.finish("m", {"json", "csv", "coco"}, whole=False)
    finally:
        results.close()


def run_model(path: Path) -> None:
    from dimpoint.inference.detector import Detector

    Detector(path, threads=1)(frame())


def read_maps(path: Path) -> None:
    """A folder with a predicted map, held against a frame of a data set."""
    from dimpoint.evaluation.subject import Data, open_predictions

    root = path.parent / "set"
    if not root.is_dir():
        (root / "images").mkdir(parents=True)
        (root / "images" / "a.png").write_bytes(encoded(".png", frame()))
        (root / "points.json").write_bytes(coco()[0])
    folder = path.parent / "maps"
    folder.mkdir(exist_ok=True)
    path.replace(folder / path.name)
    subject = open_predictions(folder, Data((root,)))
    for one in subject.frames:
        subject.predictor.predict(one, None)


def read_points_predicted(path: Path) -> None:
    from dimpoint.evaluation.subject import Data, open_predictions

    root = path.parent / "set"
    if not root.is_dir():
        (root / "images").mkdir(parents=True)
        (root / "images" / "a.png").write_bytes(encoded(".png", frame()))
        (root / "points.json").write_bytes(coco()[0])
    subject = open_predictions(path, Data((root,)))
    for one in subject.frames:
        subject.predictor.predict(one, None)


def read_body(path: Path) -> None:
    """A request's body to `dimpoint serve`."""
    from dimpoint.serving.app import frame_of

    for kind in ("image/png", "image/tiff"):
        frame_of(path.read_bytes(), kind, None, None)


KINDS = {
    "png": Kind(pictures(".png", np.uint8, np.uint16), "a.png", read_picture),
    "jpeg": Kind(pictures(".jpg", np.uint8), "a.jpg", read_picture),
    "bmp": Kind(pictures(".bmp", np.uint8), "a.bmp", read_picture),
    "tiff": Kind(tiffs, "a.tif", read_picture),
    "npy": Kind(arrays, "a.npy", read_picture),
    "mask": Kind(lambda: [*pictures(".png", np.uint8)(), *arrays()], "a.png", read_mask),
    "mask-npy": Kind(arrays, "a.npy", read_mask),
    "coco": Kind(coco, "points.json", read_coco, tree=True),
    "data-set": Kind(coco, "points.json", check_set, tree=True),
    "results": Kind(results, "detections.json", read_results, tree=True),
    "recipe": Kind(recipes, "r.yaml", read_recipe),
    "split": Kind(lists, "train.txt", read_split),
    "record": Kind(records, "record.json", read_record, tree=True),
    "model": Kind(models, "m.onnx", read_model),
    "stack": Kind(stacks, "a.npz", read_picture),
    "matlab": Kind(stacks, "a.mat", read_picture),
    "fits": Kind(fits, "a.fits", read_picture),
    "pnm": Kind(pictures(".pgm", np.uint8, np.uint16), "a.pgm", read_picture),
    "webp": Kind(pictures(".webp", np.uint8), "a.webp", read_picture),
    "video": Kind(videos, "a.mp4", read_picture),
    "other-labels": Kind(other_labels, "a.json", read_other_labels),
    "label-import": Kind(lambda: [*coco(), *other_labels()], "a.json", import_labels),
    "label-store": Kind(stores, "labels.db", read_store),
    "tracks": Kind(tracks, "tracks.json", read_track_file, tree=True),
    "run": Kind(runs, "run.json", read_run, tree=True),
    "weights": Kind(weights, "m.safetensors", read_weights),
    "journal": Kind(journals, "detections.unfinished.jsonl", resume_journal),
    "model-run": Kind(whole_models, "m.onnx", run_model),
    "map": Kind(lambda: [*pictures(".png", np.uint8, np.uint16)(), *arrays()], "a.png", read_maps),
    "map-npy": Kind(arrays, "a.npy", read_maps),
    "predicted": Kind(lambda: [*results(), *coco()], "p.json", read_points_predicted, tree=True),
    "body": Kind(lambda: [*pictures(".png", np.uint8)(), *tiffs()], "a.bin", read_body),
}
