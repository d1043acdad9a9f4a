//! The commands: the clap tree and nothing else.

use clap::{Parser, Subcommand};

mod serve;

/// A live-chat backend that speaks Supabase's API.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole backend on this machine
    Serve(serve::Args),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever made the command fail, for the user to read.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(args) => serve::run(args).await,
        }
    }
}
