//! `switchboard migrate`: the schema, on any Supabase or on the `serve` that runs here.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};

use super::{misuse, status};
use crate::db::{
    Database,
    migrations::{Migrations, Standing, State},
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Apply the migrations that are missing
    #[command(after_help = "Example:\n  switchboard migrate up --database-url \
                            postgresql://postgres:secret@db.example.com:5432/postgres")]
    Up(Target),
    /// Show which migrations are applied; exit status 1 if the database and the migrations have parted
    #[command(after_help = "Example:\n  switchboard migrate status -o json")]
    Status {
        #[command(flatten)]
        target: Target,
        /// How to print
        #[arg(short, long, env = "SWITCHBOARD_OUTPUT", value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Which migrations, which database.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// The database, with a session (direct or session pooler) as `postgres` [default: the one of the `serve` that
    /// runs here]
    #[arg(long, env = "SWITCHBOARD_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// The folder of the `serve` that runs here [default: the same as serve's]
    #[arg(long, env = "SWITCHBOARD_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Migrations from this folder instead of those in the binary
    #[arg(long, env = "SWITCHBOARD_MIGRATIONS_DIR", value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Target {
    async fn resolve(self) -> anyhow::Result<(Migrations, Database)> {
        let url = match self.database_url {
            Some(url) => url,
            None => {
                let running = status::find(self.data_dir)
                    .await
                    .context("no --database-url is given")?;
                running
                    .values
                    .get("DB_URL")
                    .cloned()
                    .context("the `serve` that runs here has no database URL")?
            }
        };
        let migrations = match self.dir {
            Some(dir) => Migrations::read(&dir)?,
            None => Migrations::embedded()?,
        };
        Ok((migrations, Database::from_url(&url).map_err(misuse::database_url)?))
    }
}

pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(target) => {
            let (migrations, database) = target.resolve().await?;
            let applied = migrations.apply(&database).await?;
            for name in &applied {
                println!("{name}");
            }
            match applied.len() {
                0 => eprintln!("nothing to apply"),
                1 => eprintln!("1 migration applied"),
                n => eprintln!("{n} migrations applied"),
            }
            Ok(())
        }
        Command::Status { target, output } => {
            let (migrations, database) = target.resolve().await?;
            let standings = migrations.status(&database).await?;
            match output {
                Output::Json => println!("{}", serde_json::to_string_pretty(&standings)?),
                Output::Table => print!("{}", table(&standings)),
            }
            let parted = |standing: &&Standing| !matches!(standing.state, State::Applied | State::Pending);
            match standings.iter().filter(parted).count() {
                0 => Ok(()),
                n => bail!(
                    "the database and the migrations have parted ({n} of {})",
                    standings.len()
                ),
            }
        }
    }
}

fn table(standings: &[Standing]) -> String {
    let row = |version: &str, state: &str, name: &str| format!("{version:<14}  {state:<7}  {name}\n");
    let mut text = row("VERSION", "STATE", "NAME");
    for Standing { version, name, state } in standings {
        let state = match state {
            State::Applied => "applied",
            State::Pending => "pending",
            State::Changed => "changed",
            State::Unknown => "unknown",
            State::Skipped => "skipped",
        };
        text += &row(version, state, name);
    }
    text
}
