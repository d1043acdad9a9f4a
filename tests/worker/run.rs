//! The worker as a whole.

use sqlx::{PgConnection, postgres::PgListener};
use switchboard::{
    db::{Login, migrations::Migrations},
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

#[tokio::test(flavor = "multi_thread")]
async fn a_duty_that_fails_is_told_and_tried_until_it_succeeds() {
    let database = TestDatabase::new().await;
    let mut owner = desk::owner(&database.database).await;
    sqlx::query("alter function chat.assign_next() rename to assign_never")
        .execute(&mut owner)
        .await
        .unwrap();
    let worker = Running::start(&database);
    until("the worker says which duty fails", async || {
        worker.state() == Some(Err("queue fails; see the log".to_owned()))
    })
    .await;
    sqlx::query("alter function chat.assign_never() rename to assign_next")
        .execute(&mut owner)
        .await
        .unwrap();
    until("the worker is ready", async || worker.state() == Some(Ok(()))).await;
    worker.stop().await;
}

#[tokio::test]
async fn the_database_tells_of_the_line_and_of_agents_but_of_no_message() {
    let database = TestDatabase::new().await;
    let mut owner = desk::owner(&database.database).await;
    desk::agents(&mut owner, 1, 1).await;
    let customers = desk::users(&mut owner, 2).await;
    let mut listener = PgListener::connect_with(&database.pool(Login::Owner)).await.unwrap();
    listener.listen("chat").await.unwrap();

    let served = desk::start(&mut owner, customers[0]).await.unwrap();
    desk::say(&mut owner, customers[0], served.id).await.unwrap();
    desk::start(&mut owner, customers[1]).await.unwrap();
    sqlx::query("update public.support_agents set status = 'away'")
        .execute(&mut owner)
        .await
        .unwrap();
    sqlx::query("select pg_notify('chat', 'the end')")
        .execute(&mut owner)
        .await
        .unwrap();

    let mut heard = Vec::new();
    while heard.last().map(String::as_str) != Some("the end") {
        heard.push(listener.recv().await.unwrap().payload().to_owned());
    }
    assert_eq!(heard, ["queue", "agents", "the end"]);
}
