//! `switchboard worker`: the worker alone, beside any Supabase.

use super::{misuse, signals};
use crate::{db::Database, health::Health, shutdown::Shutdown, worker};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  switchboard worker --database-url \
                        postgresql://postgres:secret@db.example.supabase.co:5432/postgres")]
pub struct Args {
    /// The database, as the owner of the schema (`postgres`); a session, as the worker listens to notifications
    #[arg(long, env = "SWITCHBOARD_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: String,
    #[command(flatten)]
    worker: worker::Settings,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let database = Database::from_url(&args.database_url).map_err(misuse::database_url)?;
    let shutdown = Shutdown::default();
    signals::stop_at_one(&shutdown);
    worker::run(database, args.worker, shutdown, Health::default()).await;
    Ok(())
}
