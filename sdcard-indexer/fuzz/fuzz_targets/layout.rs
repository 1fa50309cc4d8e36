//! Any text as a template, a time zone and names, a line each: no zone does harm, and in those that clocks are set
//! by, what a name tells is what a name of that time tells.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sdcard_indexer::layout::Layout;

/// Others may set clocks by half a day at New Year, of which no name could tell.
const ZONES: [&str; 4] = [
    "UTC",
    "+05:45",
    "CET-1CEST,M3.5.0,M10.5.0/3",
    // Lord Howe Island: half an hour, in the southern summer.
    "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
];

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let (Some(template), Some(zone)) = (lines.next(), lines.next()) else { return };
    for zone in ZONES.into_iter().chain([zone]) {
        let Ok(layout) = Layout::new(template, zone) else { continue };
        for name in lines.clone() {
            let Some(named) = layout.parse(Path::new(name)) else { continue };
            let again = layout.path_for(named.start, named.counter.unwrap_or(0));
            let renamed = layout.parse(&again);
            if !ZONES.contains(&zone) {
                continue;
            }
            let Some(renamed) = renamed else { panic!("{again:?} is of its own layout") };
            let end = renamed.start.saturating_add(renamed.uncertainty);
            assert!(renamed.start <= named.start && named.start <= end, "{name} {again:?}");
        }
    }
});
