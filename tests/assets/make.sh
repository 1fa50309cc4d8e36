#!/bin/sh
# Makes seconds.mp4: one minute in which the picture of every second shows that second, 00 to 59.
#
# The simulated camera copies it fragment by fragment, so its shape is a contract (tests/src/clip.rs
# checks it): H.264 without B-frames, 25 fps, one closed GOP and one moof/mdat pair a second. The frame
# number and the growing bar make all 1500 frames differ, as a seam search needs; the noise gives a
# second some 9 KB, so that a short gap is more than one chunk on the wire.
#
# Needs: apt-get install ffmpeg fonts-dejavu-core
set -eu
cd "$(dirname "$0")"
font=/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf
style="fontfile=$font:fontcolor=white:x=(w-tw)/2"
second="drawtext=$style:fontsize=120:y=14:text='%{eif\\:mod(floor(n/25),60)\\:d\\:2}'"
frame="drawtext=$style:fontsize=28:y=130:text='%{eif\\:mod(n,25)\\:d\\:2}'"
ffmpeg -hide_banner -loglevel error -y \
    -f lavfi -i "color=c=0x203040:size=320x180:rate=25:duration=60" \
    -f lavfi -i "color=c=0xe0a030:size=320x10:rate=25:duration=60" \
    -filter_complex "[0:v]noise=alls=12:allf=t:all_seed=7,$second,$frame[picture];
        [picture][1:v]overlay=x='(mod(n,25)+1)*W/25-W':y=170,format=yuv420p[out]" -map "[out]" \
    -c:v libx264 -preset veryslow -crf 29 -bf 0 -g 25 -keyint_min 25 -sc_threshold 0 -threads 1 \
    -video_track_timescale 90000 -fflags +bitexact -flags:v +bitexact -map_metadata -1 \
    -movflags +frag_keyframe+empty_moov+default_base_moof+skip_trailer \
    seconds.mp4
