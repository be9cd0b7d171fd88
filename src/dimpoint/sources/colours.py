"""Pictures in colours -> one channel."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from dimpoint.errors import ConfigError, FrameError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.format import VideoFormat

Pixels = npt.NDArray[Any]
LUMA = "luma"
_COLOURED = 10  # see _is_coloured
_AMBIGUOUS = ("hsv", "twilight", "twilight_shifted")  # rings: both ends are equal, and which is hot is open
# Brightness and colour differ little along these: compression soon takes their levels.
_FLAT = ("autumn", "cool", "deepgreen", "ocean", "spring", "summer", "winter")
# No natural scene looks like these.
_COLOURFUL = ("jet", "hot", "turbo", "rainbow", "gnuplot", "opencv_rainbow", *_AMBIGUOUS)
# Counts of a channel by which half of the pixels, and 98 % of them, lie beside their colour map at most.
_CLOSE_FLAT = 10  # the second of them, for flat maps
_CLOSE, _ROUGH = (8, 24), (14, 52)
_AS_CLOSE = 8  # counts; a map that lies so much farther is as likely in compressed colours
_TOGETHER = 0.9  # correlation of the levels of two maps that mean the same
_TINT = 8  # counts from blue to red, of 255
_TINTED = 0.05  # of the pixels, for each of two tints
_PALE = (
    "pale colours of two tints: their brightness is read; if they are of a colour map, such as twilight, "
    "save the frame as grey counts or say --colour and its name"
)
_MOST_PROBED = 2000  # colours of a picture
_STRONG = 64  # counts by which the channels of a strong colour differ
_MOSTLY = 0.4  # a larger part of strong colours is hardly a picture of visible light
_LOOKED_AT = 64  # one in so many frames of a video is looked at
_THIN = 200  # cells of 16 x 16 x 16 counts that a line through the cube of colours passes at most


def grey_of_bgr(picture: Pixels) -> Pixels:
    """A decoded picture, (H, W) or (H, W, 3 or 4) in the order B, G, R, alpha -> (H, W), same type.

    Alpha is ignored. Equal colour channels give that channel exactly, otherwise the grey value is
    0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded for integers.
    """
    if picture.ndim == 2:
        return picture
    if equal_channels(picture):
        return picture[..., 0]
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_BGR2GRAY))


def one_channel(picture: Pixels, name: str, colour: str | None = None) -> tuple[Pixels, tuple[str, ...]]:
    """One channel of a decoded picture by the rule for colours, and notes for the user.

    Parameters
    ----------
    picture
        (H, W), or (H, W, 3 or 4) in the order B, G, R, alpha; alpha is ignored.
    name
        Of the picture, for errors.
    colour
        None (default): equal or nearly equal channels give their brightness (ITU-R BT.601). A picture whose
        pixels lie on a known colour map gives the levels of that map, with a note. Other false-colour
        pictures are refused, and those that lie on several maps alike. Natural colours give their brightness,
        with a note.
        `luma`: the brightness, whatever the colours are. The name of a colour map: its levels.

    Returns
    -------
    tuple
        (H, W) of the same type, and notes.

    Raises
    ------
    FrameError
        For false colours whose levels cannot be known, ConfigError for an unknown name.

    Examples
    --------
    >>> import cv2, numpy as np
    >>> from dimpoint.sources.colours import one_channel
    >>> grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    >>> levels, notes = one_channel(cv2.applyColorMap(grey, cv2.COLORMAP_JET), "x.png")
    >>> bool((levels == grey).all()), notes
    (True, ("the colour map 'jet' is undone: the levels of 256 are read",))
    """
    check_colour(colour)
    if colour not in (None, LUMA) and picture.ndim == 3:
        return _levels(picture, colour or ""), (f"read as levels of the colour map '{colour}'",)
    if colour == LUMA or not _is_coloured(picture):
        notes = (_PALE,) if colour is None and _two_tints(picture) else ()
        return grey_of_bgr(picture), notes
    found, close = colour_map_of(picture)
    if found is not None and close and found not in _AMBIGUOUS:
        levels = _levels(picture, found)
        said = f"the colour map '{found}' is undone: the levels of 256 are read"
        if np.abs(colour_maps()[found][levels].astype(np.int16) - picture[..., :3]).max() > 1:
            said += "; compression has mixed its colours, so that levels are off by ten and more"
        return levels, (said,)
    if found is not None or _looks_false(picture):
        what = (
            f"false colours as of the map '{found}'"
            if found
            else "strong colours, probably false ones of an unknown map"
        )
        raise FrameError(
            f"{name}: {what}, and which level a colour stands for is unknown; save the frame as grey counts, "
            f"or choose with --colour: {LUMA} (the brightness) or the map: {', '.join(colour_maps())}"
        )
    said = "a picture in natural colours: their brightness (luma) is read, which is no temperature"
    return grey_of_bgr(picture), (said,)


def check_colour(colour: str | None) -> None:
    """Raise ConfigError for a `colour` that is neither None, `luma` nor the name of a colour map."""
    if colour not in (None, LUMA, *colour_maps()):
        raise ConfigError(f"--colour: '{colour}' is none of {LUMA}, {', '.join(colour_maps())}")


def one_channel_of_array(array: Pixels, name: str) -> Pixels:
    """One channel of an array (H, W, 3 or 4) whose order, RGB or BGR, is not known.

    Nearly equal channels give their brightness, the colours of a known colour map its levels, as in files;
    other colours are refused with FrameError.
    """
    if equal_channels(array):
        return array[..., 0]
    if array.dtype.kind == "u" and not _is_coloured(array) and not _two_tints(array):
        return grey_of_bgr(array)
    orders = [array, array[..., 2::-1]]
    fits = [(picture, found) for picture in orders for found, close in [colour_map_of(picture)] if close]
    if len(fits) == 1 and fits[0][1] not in _AMBIGUOUS:
        return _levels(fits[0][0], fits[0][1] or "")
    raise FrameError(
        f"{name}: shape {array.shape} with unequal channels: RGB or BGR cannot be told apart; "
        "give one grey channel (height, width)"
    )


def _is_coloured(picture: Pixels) -> bool:
    """Whether the channels of more than a tenth of the pixels lie apart by more than a tenth of the range.

    Grey pictures that JPEG or a white balance tinted stay below that.
    """
    if picture.ndim == 2 or picture.dtype.kind != "u" or equal_channels(picture):
        return False
    colours = picture[..., :3]
    apart = colours.max(axis=2) - colours.min(axis=2)
    return float((apart > np.iinfo(picture.dtype).max / _COLOURED).mean()) > 1 / _COLOURED


def _two_tints(picture: Pixels) -> bool:
    """Whether pale colours are bluish here and reddish there, as of the map 'twilight'; a grey picture that
    is tinted has one tint.
    """
    if picture.ndim == 2 or picture.dtype.kind != "u" or equal_channels(picture):
        return False
    scale = np.iinfo(picture.dtype).max / 255
    difference = (picture[..., 2].astype(np.float32) - picture[..., 0]) / scale
    return float(min((difference > _TINT).mean(), (difference < -_TINT).mean())) > _TINTED


@cache
def colour_maps() -> dict[str, npt.NDArray[np.uint8]]:
    """The known colour maps by name: (256, 3) B, G, R of their levels; those of OpenCV and matplotlib."""
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    names = ["jet", "hot", "inferno", "magma", "plasma", "viridis", "cividis", "turbo", "parula", "hsv"]
    names += _FLAT
    names += ["twilight", "twilight_shifted"]
    maps = {
        name: np.asarray(cv2.applyColorMap(ramp, getattr(cv2, f"COLORMAP_{name.upper()}")), np.uint8)[:, 0]
        for name in names
    }
    level = np.linspace(0, 1, 256)
    opencv = np.asarray(cv2.applyColorMap(ramp, cv2.COLORMAP_RAINBOW), np.uint8)[:, 0]
    rainbow = [np.cos(level * np.pi / 2), np.sin(level * np.pi), np.abs(2 * level - 0.5).clip(0, 1)]
    gnuplot = [np.sin(2 * np.pi * level).clip(0, 1), level**3, np.sqrt(level)]
    for name, channels in (("rainbow", rainbow), ("gnuplot", gnuplot)):
        maps[name] = (255 * np.stack(channels, axis=1)).round().astype(np.uint8)
    return maps | {"opencv_rainbow": opencv}


def colour_map_of(picture: Pixels) -> tuple[str | None, bool]:
    """The known colour map that the pixels of a picture, (H, W, 3 or 4) B, G, R, lie on.

    Its name, None if there is none, and whether they lie on it closely. With compressed colours they do not,
    and neither where they lie on two maps as closely whose levels run differently: yellow is above red in
    autumn and below it in jet. Both are named then.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3:
        return None, False
    colours, counts = np.unique(picture[..., :3].reshape(-1, 3), axis=0, return_counts=True)
    step = max(1, len(colours) // _MOST_PROBED)
    colours, counts = colours[::step], counts[::step]
    strong = (np.ptp(colours, axis=1) > _STRONG).astype(int) @ counts > 0.3 * counts.sum()
    fits: list[tuple[float, str, npt.NDArray[np.int64]]] = []
    for each, table in colour_maps().items():
        distance, levels = (np.asarray(found) for found in cKDTree(table).query(colours, p=np.inf))
        order = np.argsort(distance)
        reached = np.cumsum(counts[order]) / counts.sum()
        middle, far = (float(distance[order[np.searchsorted(reached, part)]]) for part in (0.5, 0.98))
        close = middle <= _CLOSE[0] and far <= _CLOSE[1]
        rough = strong and each in _COLOURFUL and middle <= _ROUGH[0] and far <= _ROUGH[1]
        if close or rough:
            fits.append((far, each, levels))
    if not fits:
        return None, False
    fits.sort(key=lambda fit: fit[0])
    best, name, levels = fits[0]
    others = [
        fit
        for fit in fits[1:]
        if best > 1 and fit[0] <= best + _AS_CLOSE and not _agree(levels, fit[2], counts)
    ]
    if others:
        return f"{name}' or '{others[0][1]}", False
    return name, best <= (_CLOSE_FLAT if name in _FLAT else _CLOSE[1])


def _agree(one: npt.NDArray[Any], other: npt.NDArray[Any], counts: npt.NDArray[Any]) -> bool:
    """Whether the levels of colours by two maps rise together. counts: pixels of each colour."""
    covariance = np.cov(one, other, fweights=counts)
    deviations = np.sqrt(covariance[0, 0] * covariance[1, 1])
    return bool(covariance[0, 1] >= _TOGETHER * deviations)


def _levels(picture: Pixels, name: str) -> npt.NDArray[np.uint8]:
    """The levels, (H, W) uint8, of the nearest colours of a map."""
    scaled = picture[..., :3] if picture.dtype == np.uint8 else (picture[..., :3] >> 8).astype(np.uint8)
    colours, places = np.unique(scaled.reshape(-1, 3), axis=0, return_inverse=True)
    levels = np.asarray(cKDTree(colour_maps()[name]).query(colours, p=np.inf)[1]).astype(np.uint8)
    return levels[places].reshape(picture.shape[:2])


def _looks_false(picture: Pixels) -> bool:
    """Whether most colours are strong, or many are, of several hues, on a line through the cube of colours.

    Of pictures of visible light some are refused with that; of false colours, noisy and compressed, none
    whose brightness is not about their level is taken for one (`benchmarks/false_colours.py`).
    """
    eight = picture[..., :3] if picture.dtype == np.uint8 else (picture[..., :3] >> 8).astype(np.uint8)
    _, counts = np.unique(eight.reshape(-1, 3) // 16, axis=0, return_counts=True)
    kept = np.sort(counts)[::-1].cumsum() < 0.99 * counts.sum()
    hsv = np.asarray(cv2.cvtColor(np.ascontiguousarray(eight), cv2.COLOR_BGR2HSV))
    chroma = eight.max(axis=2).astype(np.int16) - eight.min(axis=2)
    strong = chroma > _STRONG
    hues = np.bincount(hsv[..., 0][strong] // 15, minlength=12) > 0.02 * strong.size
    share = strong.mean()
    return bool(share > _MOSTLY or (share > 0.3 and hues.sum() >= 4 and kept.sum() <= _THIN))


def equal_channels(picture: Pixels) -> bool:
    first = picture[..., 0]
    return np.array_equal(first, picture[..., 1]) and np.array_equal(first, picture[..., 2])


class VideoColours:
    """One channel of the frames of one video or camera, by the rule for colours.

    Without a chosen rule the first frame is looked at, and ever fewer of those behind it: of a video that
    begins black, or of a camera whose palette is changed. False colours are refused, of a known map, too:
    compression has mixed them.

    Parameters
    ----------
    name
        Of the video, for errors.
    colour
        As of `one_channel`.

    Attributes
    ----------
    note
        What a user should know of the colours so far; empty if nothing.
    """

    def __init__(self, name: str, colour: str | None = None) -> None:
        check_colour(colour)
        self.note = ""
        self._name, self._colour, self._count = name, colour, 0

    def grey(self, frame: VideoFrame) -> Pixels:
        """The next frame, (H, W). Raises FrameError for false colours."""
        number = self._count
        self._count += 1
        due = number % _LOOKED_AT == 0 or (number < _LOOKED_AT and number & (number - 1) == 0)
        if self._colour is None and due:
            self._look(frame)
        return grey_of_video(frame, self._colour)

    def _look(self, frame: VideoFrame) -> None:
        if frame.format.name.startswith(("gray", "mono", "ya")):
            return
        bgr = frame.to_ndarray(format="bgr24")
        if not _is_coloured(bgr):
            return
        found, _ = colour_map_of(bgr)
        if found is not None:
            raise FrameError(
                f"{self._name}: a video in the false colours of '{found}'; --colour {found} reads the levels "
                "of that map, --colour luma the brightness"
            )
        _, notes = one_channel(bgr, self._name)  # refuses those of an unknown map
        self.note = "; ".join(notes)


def grey_of_video(frame: VideoFrame, colour: str | None = None) -> Pixels:
    """One channel of a decoded video frame.

    - Grey formats (gray, gray10, gray12, gray14, gray16) and the luma of YUV formats give the counts as
      stored: 8 bits as uint8, more as uint16, neither scaled nor clipped. So luma of the limited range
      (16..235) keeps that range, and what lies outside it.
    - RGB and palette formats become grey (ITU-R BT.601).
    - colour: the name of a colour map gives its levels.
    """
    if colour not in (None, LUMA):
        return one_channel(frame.to_ndarray(format="bgr24"), "video", colour)[0]
    pixel = frame.format
    bits = max(component.bits for component in pixel.components)
    if pixel.is_rgb or pixel.has_palette:
        rgb = frame.to_ndarray(format="rgb24" if bits <= 8 else "rgb48le")
        return grey_of_bgr(rgb[..., ::-1])
    if _first_plane_is_counts(pixel):
        return _stored_counts(frame)
    if len(pixel.components) <= 2:  # black and white, or grey beside alpha
        return _stored_counts(frame.reformat(format="gray" if bits <= 8 else "gray16le"))
    return _stored_counts(_planar(frame, bits))


def _first_plane_is_counts(pixel: VideoFormat) -> bool:
    """Whether the first plane holds grey or luma alone, and in the low bits of its words."""
    planar_luma = pixel.name.startswith("yuv") and pixel.is_planar and "msb" not in pixel.name
    return pixel.name.startswith("gray") or planar_luma


def _planar(frame: VideoFrame, bits: int) -> VideoFrame:
    """Packed and semi-planar YUV, such as yuyv422 and p010, as planar YUV with the same luma."""
    from av.video.reformatter import ColorRange

    return frame.reformat(
        format="yuv444p" if bits <= 8 else f"yuv444p{bits}le",
        src_color_range=ColorRange.JPEG,  # one range on both sides, so that nothing is scaled
        dst_color_range=ColorRange.JPEG,
    )


def _stored_counts(frame: VideoFrame) -> Pixels:
    """The first plane of a frame; its rows may be padded."""
    kind = "f" if frame.format.name.startswith("grayf") else "u"
    order = ">" if frame.format.is_big_endian else "<"
    dtype = np.dtype(f"{order}{kind}{(frame.format.components[0].bits + 7) // 8}")
    plane = frame.planes[0]
    rows: Pixels = np.frombuffer(memoryview(plane), dtype).reshape(
        frame.height, plane.line_size // dtype.itemsize
    )
    return rows[:, : frame.width].copy()
