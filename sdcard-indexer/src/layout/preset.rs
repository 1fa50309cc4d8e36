//! Layouts known by name, each with the place where the knowledge comes from, and what of it was not seen.
//!
//! None of these was checked against a device or a card of its maker; what was checked is said at each.
//! A recorder that is told to name its files otherwise needs a template of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A recorder's own way of naming files, chosen in a configuration by its lower-case name.
///
/// Where nothing else is said, the stream's root is the directory in which the template begins, names
/// are in the recorder's local time, and a file bears its final name while it is still being written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The object storage recording format of the ONVIF Recording Control specification (normative
    /// annex): `[prefix/]YYYY-MM-DD[/postfix]/HH/MM-SS.ffffffZ.COUNTER.mp4`, UTC of the first sample,
    /// counter from 0 within a span. The prefix is the stream's root; there is no postfix.
    Onvif,
    /// MediaMTX, `recordFormat: fmp4` or `mpegts`. The first is its default `recordPath`,
    /// `./recordings/%path/%Y-%m-%d_%H-%M-%S-%f`, the second the form `%s-%f` of its documentation; `%f` is
    /// microseconds in six digits. The stream's root is the directory that stands for `%path`.
    /// Source: bluenviron/mediamtx, `mediamtx.yml` and `internal/recordstore/path.go`.
    /// Not verified: MediaMTX itself was not run.
    MediaMtx,
    /// What is commonly given to ffmpeg's segment muxer with `-strftime 1`: whole seconds. ffmpeg has no
    /// default for it. Source: "segment" in the ffmpeg-formats manual; files made with ffmpeg itself.
    Ffmpeg,
    /// OpenIPC's majestic: a file an hour, `records.path: /mnt/mmcblk0p1/%F/%H.mp4`, or, since path and
    /// name are two settings, `records.path` ending in `%F` with `records.filename: %H-%M`.
    /// Source: OpenIPC/wiki, `en/majestic-config.md`; OpenIPC/majestic-webui, `www/a/files.js`.
    /// Not verified: what majestic, whose source is closed, does when it restarts within the hour.
    Majestic,
    /// Thingino's recorder in prudynt: the form that its web page sets, below `HOSTNAME/records`, and the
    /// one that its script falls back to. Source: themactep/thingino-firmware,
    /// `package/prudynt-t/files/www/x/tool-record.cgi` and `files/record`.
    /// Not verified: the part of prudynt that writes the files; timelapses may lie beside them.
    Thingino,
    /// The recorder of the Raptor streaming system: a directory a day. Its motion clips are named alike
    /// below `clips`, a root of their own. Source: gtxaspec/raptor, `rmr/rmr_storage.c`.
    /// Not verified: whether two files can begin in one second.
    Raptor,
    /// Frigate's `recordings`: UTC, and the camera's name as a directory between hour and minute.
    /// Frigate writes elsewhere and puts whole files here. Source: blakeblackshear/frigate,
    /// `frigate/record/maintainer.py`. Not verified: Frigate itself was not run.
    Frigate,
    /// Yi cameras, also with yi-hack: `record/2023Y08M18D07H/02M00S60.mp4`, whose last number is the length
    /// in seconds; some models put a letter and a digit (`E1`, `W8`) before the minute, and old ones no
    /// length at the end. What is being written is `record/tmp.mp4.tmp`.
    /// Source: roleoroleo/yi-hack-Allwinner-v2, `ftppush.sh`, `eventsfile.sh` and issues 703, 826 and 924;
    /// these say that newer models name by UTC and others by local time: set `time_zone`.
    /// Not verified: which model does which.
    Yi,
    /// Wyze, also with WyzeHacks or wz_mini_hacks: `record/YYYYMMDD/HH/MM.mp4`, a file a minute.
    /// Source: HclX/WyzeHacks, `wyze_hack/main.sh`; gtxaspec/wz_mini_hacks, `status.cgi`.
    /// Not verified: that a file begins with its minute.
    Wyze,
    /// Xiaomi and Mijia: `MIJIA_RECORD_VIDEO/YYYYMMDDHH/MMmSSs_EPOCH.mp4`. The Unix seconds at the end
    /// decide. Source: public tools that sort such files (one example name agrees with UTC+8).
    /// Not verified: that the last number is UTC on every model, and of the start.
    Xiaomi,
    /// Viofo dashcams: `DCIM/Movie`, with locked files in `RO` and those made while parking in `Parking`;
    /// `2025_0101_000600_000001F.MP4`, or older `20250101000600_000001F.MP4`. The cameras are `F` (front),
    /// `I` (interior), `R` (rear) and `T` (telephoto); `P` (parking) or `E` (event) may stand before.
    /// Source: lists of files on cards of an A229 and an A329S, published with an importer for them.
    /// Not verified: the older form's models, and what `E` stands for.
    Viofo,
    /// Nextbase dashcams: `240915_143027_001_FH.MP4`. What tells cameras apart here is camera and quality:
    /// `FH` and `FL` are the front in high and low quality, `RH` and `RL` the rear.
    /// Source: "File Names" in Nextbase's support pages, for the Piqo.
    /// Not verified: other models, and where protected files lie.
    Nextbase,
    /// Vantrue dashcams: `Normal`, `Event` and `Parking`, `20260904_175735_00001_N_A.MP4`; the letter before
    /// the camera is that of the directory. The cameras are `A` (front), `B` (interior) and `C` (rear).
    /// Source: public tools for the N4S and the E1 Pro.
    /// Not verified: models with a directory for each camera.
    Vantrue,
}

impl Preset {
    pub const ALL: [Preset; 13] = [
        Preset::Onvif,
        Preset::MediaMtx,
        Preset::Ffmpeg,
        Preset::Majestic,
        Preset::Thingino,
        Preset::Raptor,
        Preset::Frigate,
        Preset::Yi,
        Preset::Wyze,
        Preset::Xiaomi,
        Preset::Viofo,
        Preset::Nextbase,
        Preset::Vantrue,
    ];

    /// As a configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Preset::Onvif => "onvif",
            Preset::MediaMtx => "mediamtx",
            Preset::Ffmpeg => "ffmpeg",
            Preset::Majestic => "majestic",
            Preset::Thingino => "thingino",
            Preset::Raptor => "raptor",
            Preset::Frigate => "frigate",
            Preset::Yi => "yi",
            Preset::Wyze => "wyze",
            Preset::Xiaomi => "xiaomi",
            Preset::Viofo => "viofo",
            Preset::Nextbase => "nextbase",
            Preset::Vantrue => "vantrue",
        }
    }

    /// The recorder's forms: no name is of two of them, and new names are made by the first.
    pub const fn templates(self) -> &'static [&'static str] {
        match self {
            Preset::Onvif => &["%F/%H/%M-%S.%fZ.{counter}.mp4"],
            Preset::MediaMtx => &["%F_%H-%M-%S-%f.{mp4|ts}", "%s-%f.{mp4|ts}"],
            Preset::Ffmpeg => &["%F_%H-%M-%S.{mp4|ts|mkv}"],
            Preset::Majestic => &["%F/%H.mp4", "%F/%H-%M.mp4"],
            Preset::Thingino => &["%Y%m%d/%H/%Y%m%dT%H%M%S.mp4", "%Y/%m/%d/%H-%M-%S.mp4"],
            Preset::Raptor => &["%F/%H-%M-%S.mp4"],
            Preset::Frigate => &["%F/%H/{camera}/%M.%S.mp4"],
            Preset::Yi => &[
                "%YY%mM%dD%HH/%MM%SS{digits}.mp4",
                "%YY%mM%dD%HH/??%MM%SS{digits}.mp4",
                "%YY%mM%dD%HH/%MM%SS.mp4",
            ],
            Preset::Wyze => &["%Y%m%d/%H/%M.mp4"],
            Preset::Xiaomi => &["%Y%m%d%H/%MM%SS_%s.mp4"],
            Preset::Viofo => &[
                "{|RO/|Parking/}%Y_%m%d_%H%M%S_{counter}{|P|E}{camera}.{MP4|TS}",
                "{|RO/|Parking/}%Y%m%d%H%M%S_{counter}{|P|E}{camera}.{MP4|TS}",
            ],
            Preset::Nextbase => &["%y%m%d_%H%M%S_{counter}_{camera}.{MP4|MOV}"],
            Preset::Vantrue => {
                &["{Normal/|Event/|Parking/|}%Y%m%d_%H%M%S_{counter}_?_{camera}.MP4"]
            }
        }
    }

    /// The format itself says UTC, whatever the machine's time zone is.
    pub const fn is_always_utc(self) -> bool {
        matches!(self, Preset::Onvif | Preset::Frigate)
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}
