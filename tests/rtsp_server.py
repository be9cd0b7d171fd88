"""An RTSP server of an MP4 file (MPEG-4 part 2), by GStreamer.

For Debian's own Python, with python3-gi and gir1.2-gst-rtsp-server-1.0:

    /usr/bin/python3 rtsp_server.py CLIP [USER PASSWORD]

Prints `ready PORT`; the stream is rtsp://127.0.0.1:PORT/live. With user and password others are refused.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( filesrc location={sys.argv[1]} ! qtdemux ! mpeg4videoparse "
        "! rtpmp4vpay name=pay0 pt=96 config-interval=1 )"
    )
    factory.set_shared(True)
    if len(sys.argv) > 3:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "user")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(sys.argv[2], sys.argv[3]), token)
        server.set_auth(auth)
        roles = GstRtspServer.RTSPPermissions()
        roles.add_role("user")
        for right in ("media.factory.access", "media.factory.construct"):
            roles.add_permission_for_role("user", right, True)
        factory.set_permissions(roles)
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print("ready", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
