"""Servers of test streams, each a child process: MPEG-TS over TCP, HTTP or UDP, by PyAV.

    python stream_server.py KIND PORT [CLIP ...]

Frames of the clips, one clip after the other and again, 15 a second, as MPEG-2 in MPEG-TS. KIND is tcp,
http or udp. It prints `loaded`, waits for the line `listen` on standard input, and prints `ready PORT` when
it can be reached; port 0 takes a free one. Later lines change what is sent: `black`, `freeze`, `stall`, `go`,
`next` (clip).
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from fractions import Fraction

import av
import cv2
import numpy as np

RATE = 15  # a stream that tests on a busy machine can keep up with
BASE = Fraction(1, RATE)


class _Sink:
    """Writes to a socket as a file."""

    def __init__(self, send):
        self.send = send

    def write(self, data):
        self.send(bytes(data))
        return len(data)


def frames_of(clip: str) -> list[np.ndarray]:
    if clip.startswith("small:"):  # small:160x120, a target that flies over noise
        width, height = map(int, clip[6:].split("x"))
        rng = np.random.default_rng(0)
        made = []
        for n in range(60):
            y, x = np.mgrid[:height, :width]
            spot = 230 * np.exp(-((x - 10 - 1.5 * n) ** 2 + (y - height / 2 - 0.3 * n) ** 2) / 3)
            made.append((20 + rng.normal(0, 1, (height, width)) + spot).clip(0, 255).astype(np.uint8))
        return made
    with av.open(clip) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


class Server:
    def __init__(self, clips: list[str]) -> None:
        self.clips = [frames_of(clip) for clip in clips]
        self.which = 0
        self.mode = "go"

    def obey(self) -> None:
        for line in sys.stdin:
            if line.strip() == "next":
                self.which = (self.which + 1) % len(self.clips)
            else:
                self.mode = line.strip()
        os._exit(0)  # the test is gone

    def pictures(self):
        begin, number, last = time.monotonic(), 0, None
        while True:
            pause = begin + number / RATE - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            while self.mode == "stall":
                time.sleep(0.05)
            clip = self.clips[self.which]
            frame = clip[number % len(clip)]
            if self.mode == "black":
                frame = np.zeros_like(frame)
            elif self.mode == "freeze" and last is not None:
                frame = last
            last = frame
            yield number, frame
            number += 1

    def send(self, write) -> None:
        """Encode one stream until the other side goes. A new size is a new sequence in the same stream."""
        container = av.open(_Sink(write), "w", format="mpegts", options={"flush_packets": "1"})
        stream = encoder = None
        for number, frame in self.pictures():
            height, width = frame.shape
            if stream is None:
                stream = container.add_stream("mpeg2video", rate=RATE)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            if encoder is None or (encoder.width, encoder.height) != (width, height):
                encoder = av.CodecContext.create("mpeg2video", "w")
                encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
                encoder.framerate, encoder.time_base = RATE, BASE
                encoder.gop_size, encoder.max_b_frames, encoder.bit_rate = 5, 0, 8_000_000
            picture = av.VideoFrame.from_ndarray(cv2.merge([frame] * 3), format="bgr24")
            picture.pts, picture.time_base = number, BASE
            for packet in encoder.encode(picture):
                packet.stream = stream
                container.mux(packet)


def serve(kind: str, port: int, server: Server) -> None:
    if kind == "udp":
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        def send(data: bytes) -> None:
            for at in range(0, len(data), 1316):
                out.sendto(data[at : at + 1316], ("127.0.0.1", port))

        print("ready", port, flush=True)
        server.send(send)
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen()
    print("ready", listening.getsockname()[1], flush=True)
    while True:
        client, _ = listening.accept()
        threading.Thread(target=_answer, args=(kind, client, server), daemon=True).start()


def _answer(kind: str, client: socket.socket, server: Server) -> None:
    try:
        if kind == "http":
            asked = client.recv(65536).decode("latin-1")
            if "/secret" in asked:  # every password is wrong
                refusal = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\n"
                client.sendall(f"{refusal}Content-Length: 0\r\n\r\n".encode())
                client.close()
                return
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        server.send(client.sendall)
    except OSError:
        client.close()


if __name__ == "__main__":
    made = Server(sys.argv[3:])
    print("loaded", flush=True)
    if sys.stdin.readline().strip() == "listen":
        threading.Thread(target=made.obey, daemon=True).start()
        serve(sys.argv[1], int(sys.argv[2]), made)
