//! `gapless`: see [`reconciler::cli`].

use std::process::ExitCode;

use clap::Parser;
use reconciler::cli::{self, CommandLine};
use sdcard_indexer::readable::explain;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

#[tokio::main]
async fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let levels =
        Targets::new().with_default(LevelFilter::WARN).with_target("reconciler", LevelFilter::INFO);
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(to_stderr.with_filter(levels)).init();
    let outcome = Box::pin(cli::run(command_line)).await;
    if let Err(error) = &outcome {
        eprintln!("gapless: {}", explain(error.as_ref()).trim_end());
    }
    cli::exit_code(&outcome)
}
