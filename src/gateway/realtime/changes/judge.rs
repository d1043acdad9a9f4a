//! Who may see which change, and the delivery to those.

use sqlx::PgPool;
use tokio::time::sleep;

use super::{
    deliver::deliver,
    due::Due,
    pause::Pause,
    questions::{ask, decide},
    stream::Streamed,
    tables::Tables,
    verdict::Verdicts,
    visibility::Asker,
};
use crate::{db::session::Failure, gateway::realtime::hub::Hub, health::Part};

/// What it takes to judge changes.
#[derive(Debug)]
pub struct Judge {
    pool: PgPool,
    asker: Asker,
    health: Part,
    tables: Tables,
}

#[derive(Debug, thiserror::Error)]
enum JudgeError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Session(#[from] Failure),
}

impl Judge {
    /// One that knows no table yet.
    pub fn new(pool: PgPool, asker: Asker, health: Part) -> Self {
        Self {
            pool,
            asker,
            health,
            tables: Tables::default(),
        }
    }

    /// Forgets what it knows of tables: they may have changed unseen.
    pub fn forget_tables(&mut self) {
        self.tables.clear();
    }

    /// Delivers a batch to those it concerns, and what the database broadcasts to the hub, if that is wanted. Waits for
    /// a database that is away rather than lose it.
    pub async fn deliver<'a>(&mut self, batch: &'a [Streamed], hub: Option<&Hub>, due: impl Fn() -> Vec<Due<'a>>) {
        let mut pause = Pause::default();
        loop {
            match self.judge(due()).await {
                Ok((due, verdicts)) => {
                    deliver(hub, &self.tables, batch, &due, &verdicts);
                    self.health.ready();
                    return;
                }
                Err(error) => {
                    self.health.failing("the database does not answer");
                    tracing::warn!(%error, changes = batch.len(), "changes wait for the database");
                    sleep(pause.next()).await;
                }
            }
        }
    }

    /// Everything a delivery needs to know: who is concerned, and what Postgres says of it.
    async fn judge<'a>(&mut self, mut due: Vec<Due<'a>>) -> Result<(Vec<Due<'a>>, Verdicts), JudgeError> {
        self.tables.refresh(&self.pool, &mut due).await?;
        decide(&mut self.asker, &mut due).await?;
        let verdicts = ask(&mut self.asker, &self.tables, &due).await?;
        Ok((due, verdicts))
    }
}
