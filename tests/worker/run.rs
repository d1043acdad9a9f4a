//! The worker as a whole.

use sqlx::PgConnection;
use switchboard::{
    db::migrations::Migrations,
    health::Health,
    shutdown::Shutdown,
    worker::{self, Settings},
};

use super::desk::{self, WAITING};
use crate::support::{cluster::TestDatabase, until};

/// A worker in the background, stopped and awaited at the end.
struct Running {
    shutdown: Shutdown,
    health: Health,
}

impl Running {
    fn start(database: &TestDatabase) -> Self {
        let running = Self {
            shutdown: Shutdown::default(),
            health: Health::default(),
        };
        // an hour between looks: what happens here happens because the worker was told
        let settings = Settings {
            poll_seconds: 3600,
            ..Settings::default()
        };
        let (shutdown, health) = (running.shutdown.clone(), running.health.clone());
        running
            .shutdown
            .spawn(worker::run(database.database.clone(), settings, shutdown, health));
        running
    }

    fn state(&self) -> Option<Result<(), String>> {
        self.health.report().remove("worker")
    }

    async fn stop(self) {
        self.shutdown.start();
        assert!(self.shutdown.finished().await, "the worker did not stop in time");
    }
}

async fn is_listening(owner: &mut PgConnection) -> bool {
    let listening = "select count(*) from pg_stat_activity
        where datname = current_database() and query ilike 'listen%' and state = 'idle'";
    desk::count(owner, listening).await > 0
}

/// Leaves a seat free and somebody waiting, and tells whoever listens.
async fn announce_a_seat(owner: &mut PgConnection) {
    sqlx::query("update chat.agents set capacity = capacity + 1")
        .execute(&mut *owner)
        .await
        .unwrap();
    sqlx::query("select pg_notify('chat', 'agents')")
        .execute(owner)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_waits_for_its_schema() {
    let database = TestDatabase::platform().await;
    let worker = Running::start(&database);
    until(
        "the worker says what it waits for",
        async || matches!(worker.state(), Some(Err(reason)) if reason.contains("migrations")),
    )
    .await;

    Migrations::embedded().unwrap().apply(&database.database).await.unwrap();
    until("the worker is ready", async || worker.state() == Some(Ok(()))).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_wakes_the_worker_also_after_its_connections_died() {
    let database = TestDatabase::new().await;
    let mut owner = desk::owner(&database.database).await;
    desk::agents(&mut owner, 1, 0).await;
    for customer in desk::users(&mut owner, 2).await {
        desk::start(&mut owner, customer).await.unwrap();
    }
    let worker = Running::start(&database);
    until("the worker listens", async || is_listening(&mut owner).await).await;

    announce_a_seat(&mut owner).await;
    until("the first in line is served", async || {
        desk::count(&mut owner, WAITING).await == 1
    })
    .await;

    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    until("the worker listens again", async || is_listening(&mut owner).await).await;
    announce_a_seat(&mut owner).await;
    until("the second in line is served", async || {
        desk::count(&mut owner, WAITING).await == 0
    })
    .await;
    until("the worker is ready", async || worker.state() == Some(Ok(()))).await;
    worker.stop().await;
}
