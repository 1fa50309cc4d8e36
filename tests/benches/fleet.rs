//! How long a night in the depot takes, simulated at full size: `cargo bench -p tests --bench fleet`.

use std::time::Instant;

fn main() {
    let seed = std::env::var("GAPLESS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let begun = Instant::now();
    match tests::simulation::fleet::night(seed) {
        Ok(report) => println!("{report}simulated in {:.1?}", begun.elapsed()),
        Err(violation) => {
            eprintln!("seed {seed}: {violation}");
            std::process::exit(1);
        }
    }
}
