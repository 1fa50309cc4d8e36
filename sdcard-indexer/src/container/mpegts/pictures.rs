//! Pictures: NAL units between start codes, gathered into access units (H.264 and H.265, annex B and 7.4).
//!
//! An access unit begins with the first NAL unit that may not follow a picture, wherever PES packets begin: some
//! recorders put a picture into several, or parameter sets into one of their own.

use std::collections::VecDeque;

use super::super::in_band::sei_number;
use super::super::track::Codec;
use super::parameter_sets::ParameterSets;
use super::trail::{Place, Trail};
use super::unit::{Description, LENGTH_BYTES, Unit};
use super::watch::Times;

/// Of a NAL unit, what is kept: parameter sets are not longer, and what else is looked for stands in front.
const MAX_KEPT_BYTES: usize = 4096;

/// Cuts a stream of pictures into access units.
#[derive(Debug)]
pub(super) struct Pictures {
    codec: Codec,
    /// Zero bytes right before the next one.
    zeros: u64,
    nal: Option<Nal>,
    /// The NAL unit's first bytes: three, or more where they matter.
    kept: Vec<u8>,
    open: Option<Open>,
    sets: ParameterSets,
    /// A picture was finished after the parameter sets were there.
    described: bool,
}

/// The NAL unit at hand.
#[derive(Clone, Copy, Debug)]
struct Nal {
    /// Number of its first byte, and of the first of its start code.
    begins: u64,
    code: u64,
    role: Option<Role>,
}

/// The access unit at hand.
#[derive(Clone, Copy, Debug)]
struct Open {
    number: u64,
    begins: Place,
    times: Option<Times>,
    size_bytes: u64,
    has_picture: bool,
    keyframe: bool,
}

/// What a NAL unit is to an access unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// Stands before the pictures of one.
    Leads { kept: bool },
    /// A slice; the first one of a picture begins an access unit where another picture is before it.
    Slice { first: bool, keyframe: bool },
    /// Goes with what is before it.
    Follows,
}

/// Bytes of a NAL unit that tell its role.
const HEAD_BYTES: usize = 3;

impl Pictures {
    pub(super) fn new(codec: Codec) -> Self {
        Pictures {
            codec,
            zeros: 0,
            nal: None,
            kept: Vec::new(),
            open: None,
            sets: ParameterSets::new(codec),
            described: false,
        }
    }

    /// Takes in the bytes that the trail has entered last.
    pub(super) fn push(&mut self, trail: &mut Trail, bytes: &[u8], ready: &mut VecDeque<Unit>) {
        let first = trail.bytes() - bytes.len() as u64;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let number = first + at as u64;
            if byte == 1 && self.zeros >= 2 {
                self.end_nal(number - self.zeros, trail, ready);
                let code = number - self.zeros.min(3);
                self.nal = Some(Nal { begins: number + 1, code, role: None });
                self.zeros = 0;
            } else {
                self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
                self.keep(byte, trail, ready);
            }
            at += 1;
            if self.zeros == 0 && self.passes_over() {
                let rest = bytes.get(at..).unwrap_or_default();
                at += rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            }
        }
    }

    /// Nothing but a start code matters next.
    fn passes_over(&self) -> bool {
        self.nal.is_none_or(|nal| !matches!(nal.role, None | Some(Role::Leads { kept: true })))
    }

    fn keep(&mut self, byte: u8, trail: &mut Trail, ready: &mut VecDeque<Unit>) {
        let Some(nal) = self.nal.filter(|_| !self.passes_over()) else { return };
        if self.kept.len() < MAX_KEPT_BYTES {
            self.kept.push(byte);
        }
        if nal.role.is_none() && self.kept.len() == HEAD_BYTES {
            self.begin_nal(nal, trail, ready);
        }
    }

    /// Its first bytes are there: it goes with the access unit at hand, or begins the next.
    fn begin_nal(&mut self, nal: Nal, trail: &mut Trail, ready: &mut VecDeque<Unit>) {
        let role = role(self.codec, &self.kept);
        self.nal = Some(Nal { role: Some(role), ..nal });
        let begins_unit = matches!(role, Role::Leads { .. } | Role::Slice { first: true, .. });
        if begins_unit && self.open.is_some_and(|open| open.has_picture) {
            self.end_unit(nal.code, trail, ready);
        }
        if self.open.is_none() {
            let Some(begins) = trail.place(nal.code) else { return };
            // A start code is sometimes begun by the zero byte that ends the packet before.
            let times = trail.times(nal.begins);
            let (has_picture, keyframe) = (false, false);
            let number = nal.code;
            self.open = Some(Open { number, begins, times, size_bytes: 0, has_picture, keyframe });
        }
        if let (Some(open), Role::Slice { keyframe, .. }) = (&mut self.open, role) {
            open.has_picture = true;
            open.keyframe |= keyframe;
        }
    }

    /// The NAL unit at hand has no bytes from number `end` on.
    fn end_nal(&mut self, end: u64, trail: &mut Trail, ready: &mut VecDeque<Unit>) {
        let Some(nal) = self.nal else { return };
        let bytes = end.saturating_sub(nal.begins);
        self.kept.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        if nal.role.is_none() && !self.kept.is_empty() {
            self.begin_nal(nal, trail, ready);
        }
        if bytes > 0 {
            if let Some(open) = &mut self.open {
                open.size_bytes += u64::from(LENGTH_BYTES) + bytes;
                open.keyframe |= self.codec == Codec::H264 && recovery_point(&self.kept);
            }
            if self.kept.len() < MAX_KEPT_BYTES {
                self.sets.offer(&self.kept);
            }
        }
        self.kept.clear();
        self.nal = None;
    }

    /// The access unit at hand ends before the byte of that number.
    fn end_unit(&mut self, end: u64, trail: &Trail, ready: &mut VecDeque<Unit>) {
        let Some(open) = self.open.take() else { return };
        self.described |= self.sets.are_complete();
        let sizes = (u32::try_from(end - open.number), u32::try_from(open.size_bytes));
        let (Some(last), (Ok(elementary_bytes), Ok(size_bytes))) = (trail.place(end - 1), sizes)
        else {
            return;
        };
        ready.push_back(Unit {
            begins: open.begins,
            end: last.end,
            elementary_bytes,
            size_bytes,
            times: open.times,
            length: None,
            keyframe: open.keyframe,
        });
    }

    /// The stream has ended.
    pub(super) fn finish(&mut self, trail: &mut Trail, ready: &mut VecDeque<Unit>) {
        let end = trail.bytes();
        self.end_nal(end - self.zeros, trail, ready);
        if self.open.is_some_and(|open| open.has_picture) {
            self.end_unit(end, trail, ready);
        }
    }

    pub(super) fn description(&self) -> Option<Description> {
        self.described.then(|| self.sets.description()).flatten()
    }
}

/// The role of a NAL unit that begins with `head`; where that is shorter than [`HEAD_BYTES`], it is all of it.
fn role(codec: Codec, head: &[u8]) -> Role {
    let byte = |index| head.get(index).copied().unwrap_or(0);
    if codec == Codec::H264 {
        // H.264, table 7-1 and 7.4.1.2.3; `first_mb_in_slice` is 0 if its first bit is set.
        match byte(0) & 0x1f {
            kind @ (1 | 2 | 5) => Role::Slice { first: byte(1) & 0x80 != 0, keyframe: kind == 5 },
            6..=8 => Role::Leads { kept: true },
            9 | 15..=18 => Role::Leads { kept: false },
            _ => Role::Follows,
        }
    } else {
        // H.265, table 7-1 and 7.4.2.4.4; keyframes are intra random access pictures of all sorts.
        match byte(0) >> 1 & 0x3f {
            kind @ 0..=31 => {
                Role::Slice { first: byte(2) & 0x80 != 0, keyframe: (16..=23).contains(&kind) }
            }
            32..=34 => Role::Leads { kept: true },
            35 | 39 | 41..=44 | 48..=55 => Role::Leads { kept: false },
            _ => Role::Follows,
        }
    }
}

/// Whether a NAL unit of H.264 is an SEI with a recovery point (H.264, 7.3.2.3.1 and D.1.8): the picture that
/// follows is where decoding can begin, though it is no IDR picture, as with open groups of pictures.
fn recovery_point(nal: &[u8]) -> bool {
    const SEI: u8 = 6;
    const RECOVERY_POINT: usize = 6;
    let Some((_, mut rest)) = nal.split_first().filter(|(kind, _)| *kind & 0x1f == SEI) else {
        return false;
    };
    // Up to the trailing bits; each number as so many bytes of 255 and one less.
    while rest.len() > 2 {
        let (Some(kind), Some(bytes)) = (sei_number(&mut rest), sei_number(&mut rest)) else {
            return false;
        };
        if kind == RECOVERY_POINT {
            return true;
        }
        rest = rest.get(bytes..).unwrap_or_default();
    }
    false
}
