//! `switchboard serve`: the whole backend in one process.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use clap::Args as ClapArgs;
use tokio::net::TcpListener;

use crate::{
    db::{Database, platform},
    gateway::{self, Context, Services, keys::Keys},
    health::Health,
    shutdown::{self, Shutdown},
};

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Use this database instead of a Postgres of our own
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
    /// Address and port to serve the API on
    #[arg(long, env = "SWITCHBOARD_LISTEN", default_value = "127.0.0.1:54321")]
    listen: SocketAddr,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let database = Database::from_url(&args.database_url).context("read the database URL")?;
    let outcome = platform::apply(&database).await.context("prepare the database")?;
    tracing::info!(?outcome, "platform");
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listen on {}", args.listen))?;
    let shutdown = Shutdown::default();
    let context = Context {
        database,
        keys: Arc::new(Keys::development()),
        public_url: format!("http://{}", listener.local_addr()?),
        shutdown: shutdown.clone(),
        health: Health::default(),
    };
    let services = Services {
        auth: Some(gateway::auth::Settings::default()),
        rest: Some(gateway::rest::Settings::default()),
        realtime: Some(gateway::realtime::Settings::default()),
        storage: Some(gateway::storage::Settings::default()),
    };
    tracing::info!("serving {}", context.public_url);
    let router = gateway::router(context, services).await?;
    let stop = shutdown.clone();
    let server = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move { stop.started().await });
    tokio::spawn(async move {
        if let Ok(signal) = shutdown::signalled().await {
            tracing::info!("{signal}: stopping");
            shutdown.start();
        }
    });
    server.await.context("serve")
}
