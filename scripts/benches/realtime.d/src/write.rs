//! Those who write: at a pace, or as fast as they can.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    data::Session,
    server::Server,
    tally::{Note, Tally},
};

/// Where messages go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The chat's, by its authors, with all its rules.
    Chat,
    /// The bare one.
    Bare,
}

impl Table {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat_messages",
            Self::Bare => "bench_messages",
        }
    }

    /// What writes one message: chat, author, what he is there, text.
    pub fn statement(self) -> &'static str {
        match self {
            Self::Chat => "select bench.write($1::text::uuid, $2::text::uuid, $3, $4)",
            Self::Bare => {
                "insert into public.bench_messages (session_id, sender_id, sender_type, message)
                values ($1::text::uuid, $2::text::uuid, $3, $4)"
            }
        }
    }
}

/// How fast.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// So many a second, at even distances.
    PerSecond(u32),
    /// So many writers, each as fast as it can; nobody writes while more than so many messages have not arrived.
    Flat(usize, usize),
    /// The same, until every chat has had a message.
    Once(usize, usize),
}

/// What was written.
pub struct Written {
    /// The messages' numbers end before this.
    pub until: usize,
    /// The share of their time that writers waited for the messages before to arrive.
    pub held: f64,
}

/// Writes for so long into these sessions, in no order of theirs; messages are numbered from `from`.
pub async fn write(
    server: &Server,
    table: Table,
    sessions: &Arc<Vec<Session>>,
    tally: &Arc<Tally>,
    from: usize,
    pace: Pace,
    seconds: Duration,
) -> Result<Written> {
    let writers = match pace {
        Pace::PerSecond(rate) => (rate as usize).div_ceil(50).max(2),
        Pace::Flat(writers, _) | Pace::Once(writers, _) => writers,
    };
    let end = match pace {
        Pace::Once(..) => from + sessions.len(),
        _ => tally.room(),
    };
    let (next, held) = (Arc::new(AtomicUsize::new(from)), Arc::new(AtomicU64::new(0)));
    let before = tally.deliveries();
    let mut tasks = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..writers {
        let client = server.connect().await?;
        let statement = client.prepare(table.statement()).await?;
        clients.push((client, statement));
    }
    let start = Instant::now();
    for (client, statement) in clients {
        let (sessions, tally, next, held) = (
            Arc::clone(sessions),
            Arc::clone(tally),
            Arc::clone(&next),
            Arc::clone(&held),
        );
        tasks.push(tokio::spawn(async move {
            while matches!(pace, Pace::Once(..)) || start.elapsed() < seconds {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    break;
                }
                match pace {
                    Pace::PerSecond(rate) => {
                        let due = start + Duration::from_secs_f64((number - from) as f64 / f64::from(rate));
                        sleep_until(due).await;
                    }
                    Pace::Flat(_, under_way) | Pace::Once(_, under_way) => {
                        let begin = Instant::now();
                        while number - from > (tally.deliveries() - before) / 2 + under_way {
                            sleep(Duration::from_millis(1)).await;
                        }
                        held.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
                    }
                }
                // Neighbours in time are none in the table.
                let session = number * 7_919 % sessions.len();
                let Session { id, people } = &sessions[session];
                let (sender, kind) = [(&people[0].id, "customer"), (&people[1].id, "agent")][number % 2];
                let text = Note { number, session }.text();
                client.execute(&statement, &[id, sender, &kind, &text]).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let took = start.elapsed();
    Ok(Written {
        until: next.load(Ordering::Relaxed).min(end),
        held: held.load(Ordering::Relaxed) as f64 / 1e9 / took.as_secs_f64() / writers as f64,
    })
}
