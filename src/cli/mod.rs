//! The commands: the clap tree and nothing else.

use std::io;

use clap::{CommandFactory, Parser, Subcommand};

pub use misuse::exit_code;

mod host;
mod keys;
mod listen;
mod migrate;
mod misuse;
mod running;
mod serve;
mod signals;
mod stand_in;
mod status;
mod worker;

/// A live-chat backend that speaks Supabase's API.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Every option is an environment variable too. Data goes to stdout, words to \
                                        stderr; exit status 0 is done, 1 failed, 2 misuse."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole backend on this machine
    Serve(Box<serve::Args>),
    /// Run the worker alone, beside a Supabase project
    Worker(Box<worker::Args>),
    /// Show the URLs and keys of the `serve` that runs here
    Status(status::Args),
    /// Move the database's schema
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Make keys of one's own
    #[command(subcommand)]
    Keys(keys::Command),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  switchboard completions bash > /etc/bash_completion.d/switchboard")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever made the command fail, for the user to read.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(args) => Box::pin(serve::run(*args)).await,
            Command::Worker(args) => worker::run(*args).await,
            Command::Status(args) => status::run(&args).await,
            Command::Migrate(command) => migrate::run(command).await,
            Command::Keys(command) => keys::run(command),
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "switchboard", &mut io::stdout());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clap_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_is_an_environment_variable() {
        fn check(command: &clap::Command) {
            for option in command.get_arguments().filter(|option| option.get_long().is_some()) {
                let name = option.get_long().unwrap_or_default();
                let spared = ["help", "version"].contains(&name);
                assert!(spared || option.get_env().is_some(), "{} --{name}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
