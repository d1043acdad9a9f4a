//! Parses the command line, starts telemetry, runs one command, sets the exit code.

use std::process::ExitCode;

use clap::Parser;
use switchboard::{
    cli::{Cli, exit_code},
    telemetry,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start();
    // One crypto provider for every TLS stack in the process; fails only when one was installed before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    // `block_on` runs the command on this very thread: the embedded Postgres dies with the thread that
    // spawned it, and this one lives as long as the process.
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            exit_code(&error)
        }
    }
}
