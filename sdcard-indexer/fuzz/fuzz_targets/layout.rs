//! Any text as a template, a time zone and names, a line each: what a name tells is what a name of that time tells.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sdcard_indexer::layout::Layout;

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let (Some(template), Some(zone)) = (lines.next(), lines.next()) else { return };
    let Ok(layout) = Layout::new(template, zone) else { return };
    for name in lines {
        let Some(named) = layout.parse(Path::new(name)) else { continue };
        let again = layout.path_for(named.start, named.counter.unwrap_or(0));
        let Some(renamed) = layout.parse(&again) else { panic!("{again:?} is of its own layout") };
        let end = renamed.start.saturating_add(renamed.uncertainty);
        assert!(renamed.start <= named.start && named.start <= end, "{name} {again:?}");
    }
});
