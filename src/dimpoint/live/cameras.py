"""What frames come from: addresses and camera devices through PyAV. Folders: `dimpoint.live.folder`."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dimpoint import limits
from dimpoint.errors import DimpointError, FrameError
from dimpoint.live.address import Address
from dimpoint.model.validity import Mask
from dimpoint.sources import PLAIN, ReadOptions, as_frame
from dimpoint.sources.colours import Pixels, VideoColours
from dimpoint.sources.video import import_av

if TYPE_CHECKING:
    from av.container import InputContainer

DEVICE = re.compile(r"/dev/video\d+")
_BEHIND = 1.0  # seconds behind the camera from which only key frames are decoded
_CAUGHT_UP = 0.3
_WAITED = 0.02  # seconds
_DRIFT = 1e-3  # seconds a second that the clocks of camera and computer may differ
_ROUGH = 1.0  # seconds without a frame after which a stream that gives nothing but damage is told of


class LostError(DimpointError):
    """A source that gives no frames any more, or none yet; opening it again may help."""


class RefusedError(LostError):
    """A source that refuses: wrong password, no such stream. Trying often may lock an account."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame of a camera as it arrived.

    pixels: (H, W) uint8, uint16 or float32. time: of presentation, seconds, None where there is none.
    arrived: by `time.monotonic`. name: of the file, in a folder. valid: (H, W) bool, False for pixels that
    the file says are no measurement; None where it says nothing.
    """

    pixels: Pixels
    time: float | None
    arrived: float
    name: str = ""
    valid: Mask | None = None


class Camera(Protocol):
    """What can be watched: `shots` opens it and gives frames until it fails with LostError or `stop` says so.

    shown: its name as it may be printed and stored.
    """

    shown: str

    def shots(self, stop: Callable[[], bool], note: Callable[[str], None]) -> Iterator[Shot]: ...

    @property
    def passed_over(self) -> int: ...


class StreamCamera:
    """An address or a camera device.

    Parameters
    ----------
    source : Address or Path
        A stream, or a device such as /dev/video0.
    timeout : float
        Seconds without data after which it counts as lost.
    options : ReadOptions
        `stream`, the number of the video stream where there are several, and `colour`, how colours are read.
    """

    def __init__(
        self, source: Address | Path, *, timeout: float = 10.0, options: ReadOptions = PLAIN
    ) -> None:
        self._source, self._timeout, self._stream = source, timeout, options.stream
        self._colour = options.colour
        self.shown = source.shown if isinstance(source, Address) else str(source)
        self.passed_over = 0
        import_av()

    def scrub(self, text: str) -> str:
        """A text without the address's secrets."""
        return self._source.scrub(text) if isinstance(self._source, Address) else text

    def shots(self, stop: Callable[[], bool], note: Callable[[str], None]) -> Iterator[Shot]:
        """Open the stream and give its frames as they are decoded; see `Camera`."""
        av = import_av()
        try:
            with self._open(av) as container:
                yield from self._decoded(av, container, stop, note)
        except (av.error.FFmpegError, OSError) as error:
            raise self._lost(av, error) from None

    def _open(self, av: Any) -> InputContainer:
        if isinstance(self._source, Path):
            if not self._source.exists():
                raise LostError("no such device")
            device: InputContainer = av.open(
                str(self._source), format="v4l2", timeout=(self._timeout, self._timeout)
            )
            return device
        address = self._source
        options = {
            "protocol_whitelist": address.protocols,
            "fflags": "nobuffer+discardcorrupt",
            "analyzeduration": "2000000",  # microseconds until the first frame at most
        }
        if address.scheme.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # over UDP lost packets smear the picture
        elif address.scheme in ("udp", "rtp"):
            options |= {"overrun_nonfatal": "1", "fifo_size": "50000", "buffer_size": "1000000"}
        opened: InputContainer = av.open(
            address.url, options=options, timeout=(self._timeout, self._timeout), metadata_errors="replace"
        )
        return opened

    def _decoded(
        self, av: Any, container: InputContainer, stop: Callable[[], bool], note: Callable[[str], None]
    ) -> Iterator[Shot]:
        streams = container.streams.video
        number = self._stream or 0
        if number >= len(streams):
            raise RefusedError(
                f"it has {len(streams)} video streams" + (f"; --stream {number}" * bool(number))
            )
        if len(streams) > 1 and self._stream is None:
            sizes = ", ".join(f"{at} ({one.width}x{one.height})" for at, one in enumerate(streams))
            note(f"video stream 0 is watched of {sizes}; --stream chooses")
        stream = streams[number]
        stream.thread_type = "SLICE"  # threads over frames would hold several back
        pace = _Pace()
        colours, told = VideoColours(self.shown, self._colour), ""
        whole = done = time.monotonic()
        for packet in container.demux(stream):
            if stop():
                return
            now = time.monotonic()
            if packet.dts is not None and pace.behind(now, now - done, float(packet.dts * packet.time_base)):
                stream.codec_context.skip_frame = "NONKEY"
                self.passed_over += not packet.is_keyframe
            else:
                stream.codec_context.skip_frame = "DEFAULT"
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                frames = []  # a lost packet; the next key frame mends it
            for frame in frames:
                if frame.is_corrupt:
                    continue
                whole = now
                limits.check("frame_pixels", frame.width * frame.height, f"{self.shown}: pixels", FrameError)
                try:
                    pixels = as_frame(colours.grey(frame), self.shown)
                except FrameError as error:
                    raise RefusedError(str(error).removeprefix(f"{self.shown}: ")) from None
                if colours.note != told:
                    told = colours.note
                    note(f"{self.shown}: {told}")
                yield Shot(pixels, frame.time, time.monotonic())
            done = time.monotonic()
            if now - whole > max(_ROUGH, self._timeout):
                raise LostError("data arrives, but no frame can be decoded from it")
        raise LostError("the stream ended")

    def _lost(self, av: Any, error: Exception) -> LostError:
        """Why the stream is lost, in words without a secret."""
        if isinstance(error, av.error.ExitError | TimeoutError):
            return LostError(f"no data for {self._timeout:g} s")
        refused = (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError, PermissionError)
        reason = self.scrub(getattr(error, "strerror", None) or type(error).__name__)
        if isinstance(error, refused):
            return RefusedError(f"user or password refused ({reason})")
        if isinstance(error, av.error.HTTPNotFoundError):
            return RefusedError(f"no such stream there ({reason})")
        failed = getattr(error, "errno", None) == errno.EIO  # what FFmpeg makes of every failed look-up
        if failed and isinstance(self._source, Address) and self._source.host_is_unknown:
            return LostError("the host name is not known; check it and the name server")
        return LostError(reason[:1].lower() + reason[1:])


class _Pace:
    """Whether decoding falls behind the camera: by presentation times against those of arrival.

    A packet that had to be waited for shows that nothing is queued, whatever its time says.
    """

    def __init__(self) -> None:
        self._least: float | None = None
        self._last = 0.0
        self._late = False

    def behind(self, now: float, waited: float, presented: float) -> bool:
        """Whether the packet that came now, after a wait, is late; both in seconds."""
        late = now - presented
        if self._least is None or waited > _WAITED:
            self._least = late
        self._least = min(late, self._least + _DRIFT * (now - self._last))
        self._last = now
        self._late = late - self._least > (_CAUGHT_UP if self._late else _BEHIND)
        return self._late
