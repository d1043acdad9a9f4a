//! Both people of each chat, listening on a socket each.

use std::sync::Arc;

use anyhow::Result;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_tungstenite::tungstenite::Message;

use super::Bench;
use crate::{
    data::Session,
    socket::{self, Socket},
    tally::{Note, Tally},
    write::Table,
};

/// How many connect at one time.
const AT_ONCE: usize = 64;

/// Listening until it is dropped.
pub struct Listeners(JoinSet<()>);

impl Listeners {
    /// Lets both sides of these chats listen to the messages of a table, of their own chat or without a filter.
    pub async fn join(
        bench: &Bench<'_>,
        sessions: &Arc<Vec<Session>>,
        table: Table,
        filtered: bool,
        tally: &Arc<Tally>,
    ) -> Result<Self> {
        let limit = Arc::new(Semaphore::new(AT_ONCE));
        let (mut joining, mut listening) = (JoinSet::new(), JoinSet::new());
        for at in 0..sessions.len() * 2 {
            let (sessions, limit, address) = (Arc::clone(sessions), Arc::clone(&limit), bench.address.clone());
            joining.spawn(async move {
                let _place = limit.acquire().await?;
                let (session, person) = (at / 2, at % 2);
                let Session { id, people } = &sessions[session];
                let mut socket = Socket::open(&address, 0).await?;
                let filter = filtered.then(|| format!("session_id=eq.{id}"));
                let config = socket::changes(table.name(), filter.as_deref());
                socket
                    .join(&format!("realtime:chat:{id}"), &config, &people[person].token)
                    .await?;
                anyhow::Ok((socket, session, person))
            });
        }
        while let Some(joined) = joining.join_next().await {
            let (mut socket, session, person) = joined??;
            let tally = Arc::clone(tally);
            listening.spawn(async move {
                while let Ok(frame) = socket.next().await {
                    if let Message::Text(text) = frame
                        && let Some(note) = Note::find(&text)
                    {
                        tally.arrive(note, session, person);
                    }
                }
            });
        }
        Ok(Self(listening))
    }

    /// Those whose connection ended although nobody wanted it.
    pub fn ended(&mut self) -> usize {
        let mut ended = 0;
        while self.0.try_join_next().is_some() {
            ended += 1;
        }
        ended
    }
}
