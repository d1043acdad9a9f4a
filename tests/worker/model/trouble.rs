//! What goes wrong in a data centre: connections cut, workers killed and started, agents who fall silent.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use sqlx::PgConnection;
use switchboard::{
    db::Database,
    health::Health,
    shutdown::Shutdown,
    worker::{self, Settings},
};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

/// Real workers, each with its own shutdown.
pub struct Workers {
    database: Database,
    running: Vec<(Shutdown, JoinHandle<()>)>,
}

impl Workers {
    pub fn start(database: &Database, count: usize) -> Self {
        let mut workers = Self {
            database: database.clone(),
            running: Vec::new(),
        };
        for _ in 0..count {
            workers.add();
        }
        workers
    }

    fn add(&mut self) {
        let shutdown = Shutdown::default();
        let settings = Settings {
            poll_seconds: 1,
            ..Settings::default()
        };
        let task = tokio::spawn(worker::run(
            self.database.clone(),
            settings,
            shutdown.clone(),
            Health::default(),
        ));
        self.running.push((shutdown, task));
    }

    /// One dies in the middle of whatever it does, and another comes.
    fn replace(&mut self, rng: &mut StdRng) {
        let (_, task) = self.running.swap_remove(rng.random_range(0..self.running.len()));
        task.abort();
        self.add();
    }

    /// Asks all to stop, and waits for them.
    pub async fn stop(self) {
        for (shutdown, task) in self.running {
            shutdown.start();
            task.await.unwrap();
        }
    }
}

/// Makes trouble until told to stop; `owner` is spared.
pub async fn make(
    mut owner: PgConnection,
    mut workers: Option<&mut Workers>,
    mut rng: StdRng,
    stop: &CancellationToken,
) {
    while !stop.is_cancelled() {
        sleep(Duration::from_millis(rng.random_range(10..100))).await;
        match (rng.random_range(0..10), &mut workers) {
            (0, Some(workers)) => workers.replace(&mut rng),
            (1..=3, Some(_)) => {
                change(
                    &mut owner,
                    "update chat.assignments as a
                 set assigned_at = a.assigned_at - interval '1 hour'
                 where a.released_at is null
                   and a.id = (
                     select o.id from chat.assignments as o where o.released_at is null order by random() limit 1
                   )",
                )
                .await
            }
            // clients and workers; the test's own connections are an administrator's
            _ => {
                change(
                    &mut owner,
                    "select pg_terminate_backend(pid)
                 from (
                   select pid
                   from pg_stat_activity
                   where datname = current_database()
                     and usename in ('authenticator', 'postgres')
                   order by random()
                   limit 1
                 ) as unlucky",
                )
                .await
            }
        }
    }
}

async fn change(owner: &mut PgConnection, statement: &'static str) {
    sqlx::query(statement).execute(owner).await.unwrap();
}
