#!/usr/bin/python3
"""The RTSP server of a simulated camera: GStreamer's, which sends on what the camera's encoder gives it.

    rtsp_server.py h264|h265 PORT

takes the encoder's RTP at PORT of the loopback, frame by frame as it is, and says on which port of its own it
listens for whoever asks for rtsp://127.0.0.1:…/live. All who ask get the same packets; time stamps are new to each
session. Ends with SIGTERM.
"""

import signal
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

codec, port = sys.argv[1:]
packets = f"application/x-rtp,media=video,clock-rate=90000,payload=96,encoding-name={codec.upper()}"
receive = f'udpsrc address=127.0.0.1 port={port} buffer-size=4194304 caps="{packets}" ! rtpjitterbuffer latency=0'
send = f"rtp{codec}depay ! {codec}parse ! rtp{codec}pay name=pay0 pt=96 mtu=800 config-interval=-1"

Gst.init(None)
media = GstRtspServer.RTSPMediaFactory(shared=True)
media.set_launch(f"( {receive} ! {send} )")
server = GstRtspServer.RTSPServer(address="127.0.0.1", service="0")
server.get_mount_points().add_factory("/live", media)
server.attach(None)

loop = GLib.MainLoop()
GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, loop.quit)
print("listening on", server.get_bound_port(), flush=True)
loop.run()
