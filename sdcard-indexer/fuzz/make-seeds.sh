#!/bin/sh
# Makes the committed seeds anew: recordings of a second in as few bytes as may be, with ffmpeg 5.1 and GStreamer 1.22
# (Debian 12), and what `examples/seeds.rs` makes of them.
set -eu
cd "$(dirname "$0")/seeds"
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT

# Without the kilobyte in which x264 names itself.
ffmpeg -nostdin -loglevel error -f lavfi -i testsrc=size=32x32:rate=8:duration=1 \
    -f lavfi -i sine=sample_rate=8000:duration=1 -pix_fmt yuv420p -crf 50 -g 4 -bf 2 -b:a 8k \
    -fflags +bitexact -flags +bitexact -bsf:v filter_units=remove_types=6 "$scratch/source.mp4"

make() { # NAME, then how ffmpeg copies the source
    name=$1
    shift
    ffmpeg -nostdin -loglevel error -y -i "$scratch/source.mp4" -fflags +bitexact -c copy "$@" "$name"
}
gst() { # NAME, then GStreamer's muxer and its properties
    name=$1
    shift
    gst-launch-1.0 --quiet filesrc location="$scratch/source.mp4" ! qtdemux name=demuxer \
        demuxer.video_0 ! queue ! h264parse ! "$@" name=muxer ! filesink location="$name" \
        demuxer.audio_0 ! queue ! aacparse ! muxer.
}
base=empty_moov+default_base_moof

make fragmented_mp4/keyframes.mp4 -movflags frag_keyframe+$base
make fragmented_mp4/every-frame.mp4 -an -movflags frag_every_frame+$base+skip_trailer
make fragmented_mp4/absolute.mp4 -movflags frag_keyframe+empty_moov+skip_trailer
make fragmented_mp4/first-in-moov.mp4 -movflags frag_keyframe
make fragmented_mp4/moof-a-track.mp4 -movflags frag_keyframe+separate_moof+$base+negative_cts_offsets
make fragmented_mp4/sidx-prft.mp4 -movflags frag_keyframe+cmaf+global_sidx+skip_trailer -write_prft pts
make fragmented_mp4/sound.mp4 -vn -movflags $base -frag_duration 300000
make fragmented_mp4/time-stamp.mp4 -an -movflags frag_keyframe+$base \
    -bsf:v h264_metadata=sei_user_data=4d495350-6d69-6372-6f73-656374696d65+in-its-place
perl -pi -e 's/in-its-place/\x1f\x00\x05\xff\x9b\x1f\xff\x55\x32\xff\xd7\xf5/' fragmented_mp4/time-stamp.mp4
gst fragmented_mp4/gstreamer.mp4 mp4mux fragment-duration=300
cat fragmented_mp4/keyframes.mp4 fragmented_mp4/every-frame.mp4 > fragmented_mp4/two.mp4

make plain_mp4/moov-last.mp4
make plain_mp4/moov-first.mp4 -movflags faststart+negative_cts_offsets
make plain_mp4/sound.mp4 -vn
gst plain_mp4/gstreamer.mp4 mp4mux
ffmpeg -nostdin -loglevel error -y -i "$scratch/source.mp4" -fflags +bitexact -c:v copy -c:a pcm_alaw \
    -t 0.3 plain_mp4/pcm.mov

make mpegts/pictures-and-sound.ts -f mpegts
make mpegts/stamped.m2ts -f mpegts -mpegts_m2ts_mode 1
make mpegts/sound.ts -vn -f mpegts
ffmpeg -nostdin -loglevel error -y -i "$scratch/source.mp4" -fflags +bitexact -c:v libx265 -c:a libopus \
    -x265-params log-level=none:info=0 -f mpegts mpegts/h265-opus.ts
cat mpegts/sound.ts mpegts/pictures-and-sound.ts mpegts/sound.ts > mpegts/three.ts
# Laces and block groups beside them are what `tests/containers/matroska.rs` makes of its fixture.
make matroska/cues.mkv
make matroska/live.mkv -live 1 -cluster_time_limit 300
make matroska/sound.webm -vn -c:a libopus
gst matroska/gstreamer.mkv matroskamux

cargo run --quiet --manifest-path ../Cargo.toml --target-dir ../../../target/fuzz --example seeds
