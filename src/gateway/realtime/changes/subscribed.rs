//! A channel's subscriptions from their beginning to their end, and what is noted of both for its client, which may lose
//! its connection and come back.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    Changes, Key, LastRef, Position,
    ledger::{self, News},
    registry::Registered,
    resume::Claimed,
};
use crate::gateway::realtime::{listener::Listener, token::Identity};

/// Whose channel it is, and how its client would be known again.
#[derive(Clone, Debug)]
pub struct Client {
    /// Who joined what.
    pub key: Key,
    /// What number the join has; zero where clients do not number.
    pub join_ref: u64,
    /// The number of the last message of its socket.
    pub last_ref: LastRef,
}

/// A channel's subscriptions; they end with it.
#[derive(Debug)]
pub struct Subscribed {
    changes: Arc<Changes>,
    row_id: Uuid,
    client: Client,
    listener: Arc<Listener>,
    pub(super) registered: Registered,
    lost: bool,
}

impl Subscribed {
    /// A channel that is noted under an id.
    pub(super) fn new(changes: &Arc<Changes>, row_id: Uuid, client: Client, listener: &Arc<Listener>) -> Self {
        Self {
            changes: Arc::clone(changes),
            row_id,
            client,
            listener: Arc::clone(listener),
            registered: Vec::new(),
            lost: false,
        }
    }

    /// Ends them for a client that is gone without a word, and may be back.
    pub fn lose(mut self) {
        self.lost = true;
    }

    /// The client has received more.
    pub fn received(&self) {
        let from = self.listener.delivery.resume_at(Position::default());
        self.tell(self.at(from, false));
    }

    fn at(&self, from: Position, lost: bool) -> News {
        News::At {
            lost,
            last_ref: self.client.last_ref.get(),
            from: Some(from),
        }
    }

    fn tell(&self, news: News) {
        // Only after the service has ended is nobody there to note it; the next start finds out.
        let _ = self.changes.news.send((self.row_id, news));
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        let Changes {
            registry,
            resumable,
            delivered,
            ..
        } = &*self.changes;
        // Before the registry forgets them: what is delivered from here on may miss them.
        let next = delivered.get();
        registry.replace(&self.registered, Vec::new());
        let resumed_at = if self.lost {
            let note = |from| self.tell(self.at(from, true));
            resumable.lost(&self.client.key, self.row_id, next, note)
        } else {
            resumable.left(&self.client.key, self.row_id);
            None
        };
        if resumed_at.is_none() {
            self.tell(News::Left);
        }
        tracing::debug!(
            channel = self.listener.id,
            lost = self.lost,
            ?resumed_at,
            "a channel has ended"
        );
    }
}

impl Changes {
    /// Notes that a channel is there. Gives where it has to go on, if its client had one before: whose place that was
    /// it is no more. After an error it still is.
    pub(super) async fn enter(
        &self,
        row_id: Uuid,
        identity: &Identity,
        rows: Vec<serde_json::Value>,
        client: &Client,
        listener: &Listener,
    ) -> sqlx::Result<Option<Position>> {
        // Until it is known what waits for it, nobody is noted to have had everything.
        let entering = self.resumable.entering();
        let here = match client.join_ref {
            0 => None,
            join_ref => self.resumable.claim(&client.key, join_ref),
        };
        let at = here.as_ref().map_or_else(|| self.delivered.get(), |here| here.from);
        let elsewhere = if here.is_some() { 0 } else { client.join_ref };
        let entered: sqlx::Result<Option<(i64, i64)>> =
            sqlx::query_as(include_str!("../../../../sql/gateway/realtime_subscribe.sql"))
                .bind(row_id)
                .bind(identity.claims.raw())
                .bind(serde_json::Value::from(rows))
                .bind(&client.key.0[..])
                .bind(client.last_ref.get().cast_signed())
                .bind(at.lsn())
                .bind(i64::from(at.change))
                .bind(elsewhere.cast_signed())
                .bind(ledger::REMEMBERED.as_secs_f64())
                .fetch_optional(&self.pool)
                .await;
        // Only after the service has ended is nobody there to note it; the next start finds out.
        let note = |id, news| {
            let _ = self.news.send((id, news));
        };
        let taken = match entered {
            Ok(taken) => taken,
            Err(error) => {
                // It may be noted all the same, in the place of another that was taken.
                let news = match here {
                    Some(here) => {
                        self.resumable.put_back(client.key.clone(), here);
                        News::Left
                    }
                    None => News::At {
                        lost: true,
                        last_ref: client.last_ref.get(),
                        from: None,
                    },
                };
                note(row_id, news);
                return Err(error);
            }
        };
        let from = match (here, taken) {
            (Some(Claimed { id, from, .. }), _) => {
                note(id, News::Left);
                Some(from)
            }
            (None, taken) => taken.map(|(commit, change)| {
                Position::new(commit.cast_unsigned(), u32::try_from(change).unwrap_or_default())
            }),
        };
        if let Some(from) = from {
            listener.delivery.goes_on_at(from);
        }
        let (last_ref, delivery) = (client.last_ref.clone(), Arc::clone(&listener.delivery));
        self.resumable.joined(client.key.clone(), row_id, last_ref, delivery);
        drop(entering);
        Ok(from)
    }
}
