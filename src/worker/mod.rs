//! What has no request to ride on: time, queues, clean-up.
//!
//! The rules are functions of the database (`supabase/migrations`, schema `chat`); a duty calls its function when the
//! database says that something changed, and every now and then in any case. Each call does what is due and leaves
//! alone what another worker is just doing, so any number of workers may share a database, and one that dies leaves
//! nothing behind.
//!
//! [`duties`] lists them, [`files`] is the one that is no statement, [`duty`] is the loop they share, [`wake`] what wakes it, [`schema`] the wait for a database
//! that has the functions.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{
    db::{Database, Login},
    health::Health,
    shutdown::Shutdown,
};

pub mod duties;
mod duty;
pub mod files;
mod schema;
mod wake;

pub use duty::{Duty, Outcome};

/// What an operator may decide about a worker.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Seconds between two looks at the queue when nothing is heard of it. A transaction pooler passes no
    /// notifications on: behind one this is how long a free seat may stay empty.
    #[arg(
        long = "worker-poll",
        value_name = "SECONDS",
        env = "SWITCHBOARD_WORKER_POLL",
        default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub poll_seconds: u64,
    /// Most connections to the database; one more listens.
    #[arg(
        long = "worker-connections",
        value_name = "NUMBER",
        env = "SWITCHBOARD_WORKER_CONNECTIONS",
        default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    pub connections: u32,
    /// Where to remove the files of erased chats; `None`: they wait.
    #[arg(skip)]
    pub storage: Option<files::Storage>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poll_seconds: 5,
            connections: 2,
            storage: None,
        }
    }
}

impl Settings {
    fn poll(&self) -> Duration {
        Duration::from_secs(self.poll_seconds)
    }
}

/// Does every duty until the process is asked to stop. Waits for a database that is not there or not migrated yet,
/// and outlives connections; the part `worker` of `health` says so meanwhile.
pub async fn run(database: Database, settings: Settings, shutdown: Shutdown, health: Health) {
    let files = match files::Files::new(settings.storage.clone(), health.clone()) {
        Ok(files) => files,
        Err(error) => {
            tracing::error!(error = %error, "no client for storage");
            return;
        }
    };
    let health = health.part("worker");
    let pool = database.pool(Login::Owner, settings.connections);

    if !schema::wait(&pool, &shutdown, &health).await {
        return;
    }
    tracing::info!("the worker is at work");

    let wake = wake::Wake::default();
    let crew = duty::Crew::new(pool.clone(), settings.poll(), shutdown.clone(), wake.clone(), health);
    // before the duties first look: what changes from here on is either seen or heard of
    let listener = wake::listen(database.pool(Login::Owner, 1), wake, shutdown);
    tokio::join!(
        listener,
        join_all(duties::ALL.iter().map(|duty| crew.repeat(duty))),
        crew.repeat_with(&duties::FILES, &files)
    );
    pool.close().await;
}
