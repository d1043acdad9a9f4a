//! `switchboard worker`: the worker alone, beside any Supabase.

use url::Url;

use super::{misuse, signals};
use crate::{
    config::Secret,
    db::Database,
    health::Health,
    shutdown::Shutdown,
    worker::{self, files::Storage},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  switchboard worker --database-url \
                        postgresql://postgres:secret@db.example.supabase.co:5432/postgres")]
pub struct Args {
    /// The database, as the owner of the schema (`postgres`); a session, as the worker listens to notifications
    #[arg(long, env = "SWITCHBOARD_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: String,
    /// The project's URL; with the service key, files of erased chats are removed there. Without, they wait
    #[arg(long, env = "SUPABASE_URL", value_name = "URL", requires = "service_key")]
    supabase_url: Option<Url>,
    /// The project's service key
    #[arg(
        long,
        env = "SUPABASE_SERVICE_ROLE_KEY",
        hide_env_values = true,
        value_name = "KEY",
        requires = "supabase_url"
    )]
    service_key: Option<Secret>,
    #[command(flatten)]
    worker: worker::Settings,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let database = Database::from_url(&args.database_url).map_err(misuse::database_url)?;
    let shutdown = Shutdown::default();
    signals::stop_at_one(&shutdown);
    let settings = worker::Settings {
        storage: args
            .supabase_url
            .zip(args.service_key)
            .map(|(url, key)| Storage { url, key }),
        ..args.worker
    };
    worker::run(database, settings, shutdown, Health::default()).await;
    Ok(())
}
