//! `switchboard worker`: the worker alone, beside any Supabase.

use std::net::SocketAddr;

use url::Url;

use super::{
    listen,
    misuse::{self, Misuse},
    signals,
};
use crate::{
    config::Secret,
    db::Database,
    health::Health,
    metrics::{self, Scraper},
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
    /// Answer Prometheus on this address and port, path /metrics
    #[arg(long, env = "SWITCHBOARD_METRICS_LISTEN", value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// What Prometheus has to show as its bearer token; needed where other machines reach --metrics-listen
    #[arg(
        long,
        env = "SWITCHBOARD_METRICS_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    metrics_token: Option<Secret>,
    #[command(flatten)]
    worker: worker::Settings,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let database = Database::from_url(&args.database_url).map_err(misuse::database_url)?;
    let shutdown = Shutdown::default();
    if let Some(address) = args.metrics_listen {
        answer_scrapes(address, args.metrics_token, &database, &shutdown)?;
    }
    signals::stop_at_one(&shutdown);
    let settings = worker::Settings {
        storage: args
            .supabase_url
            .zip(args.service_key)
            .map(|(url, key)| Storage { url, key }),
        ..args.worker
    };
    worker::run(database, settings, shutdown.clone(), Health::default()).await;
    shutdown.finished().await;
    Ok(())
}

fn answer_scrapes(
    address: SocketAddr,
    token: Option<Secret>,
    database: &Database,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    if token.is_none() && !address.ip().to_canonical().is_loopback() {
        return Err(Misuse(format!(
            "--metrics-listen {address} can be reached from other machines; give a --metrics-token as well"
        ))
        .into());
    }
    let router = metrics::router(Scraper::new(database), token);
    for listener in listen::bind(&[address], "--metrics-listen")? {
        let (router, stop) = (router.clone(), shutdown.clone());
        shutdown.spawn(async move {
            let serving = axum::serve(listener, router).with_graceful_shutdown(async move { stop.started().await });
            if let Err(error) = serving.await {
                tracing::error!(error = %error, "scrapes are answered no more");
            }
        });
    }
    Ok(())
}
