//! What the database knows of this gateway's channels: that they are there, and how far they are, for the gateway that
//! comes after this one or stands beside it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::{history::AGE, position::Position, resume::Resumable};
use crate::shutdown::Shutdown;

/// How long news is gathered before it is written: after this time at the latest a killed gateway's successor knows.
const GATHER: Duration = Duration::from_millis(100);
/// How often those who did not come back are forgotten.
const EXPIRE: Duration = Duration::from_secs(30);
/// How long the last sockets may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// News of a channel.
#[derive(Clone, Copy, Debug)]
pub enum News {
    /// It has ended for good.
    Left,
    /// Its client is lost, or has received more; the number of its last message, and where it would go on.
    At {
        /// Whether it is lost.
        lost: bool,
        /// The number of the client's last message.
        last_ref: u64,
        /// Where it goes on.
        from: Position,
    },
}

/// Where news goes.
pub type Sender = mpsc::UnboundedSender<(Uuid, News)>;

/// Writes news, many at once, until every socket has ended.
pub async fn keep(
    pool: PgPool,
    resumable: Arc<Resumable>,
    mut incoming: mpsc::UnboundedReceiver<(Uuid, News)>,
    stop: Shutdown,
) {
    let mut news: HashMap<Uuid, News> = HashMap::new();
    let mut expired = Instant::now();
    while let Some(Some((id, first))) = stop.token().run_until_cancelled(incoming.recv()).await {
        merge(&mut news, id, first);
        // together with what comes meanwhile
        stop.token().run_until_cancelled(sleep(GATHER)).await;
        write(&pool, &mut news, &mut incoming).await;
        if expired.elapsed() > EXPIRE {
            expired = Instant::now();
            resumable.expire();
            forget_expired(&pool).await;
        }
    }
    let last = async {
        while !resumable.is_quiet() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    // Who does not end in time is found lost by the next start.
    let _ = timeout(FAREWELL, last).await;
    write(&pool, &mut news, &mut incoming).await;
}

/// What was said last counts, but nothing comes after the end.
fn merge(news: &mut HashMap<Uuid, News>, id: Uuid, next: News) {
    let known = news.entry(id).or_insert(next);
    if !matches!(known, News::Left | News::At { lost: true, .. }) || matches!(next, News::Left) {
        *known = next;
    }
}

async fn write(pool: &PgPool, news: &mut HashMap<Uuid, News>, incoming: &mut mpsc::UnboundedReceiver<(Uuid, News)>) {
    while let Ok((id, next)) = incoming.try_recv() {
        merge(news, id, next);
    }
    if news.is_empty() {
        return;
    }
    let (mut ended, mut left) = (Vec::new(), Vec::new());
    let (mut ids, mut losts, mut refs, mut commits, mut changes) = (vec![], vec![], vec![], vec![], vec![]);
    for (id, next) in news.iter() {
        match next {
            News::Left => {
                ended.push(*id);
                left.push(*id);
            }
            News::At { lost, last_ref, from } => {
                if *lost {
                    ended.push(*id);
                }
                ids.push(*id);
                losts.push(*lost);
                refs.push(last_ref.cast_signed());
                commits.push(from.lsn());
                changes.push(i64::from(from.change));
            }
        }
    }
    let written = sqlx::query(include_str!("../../../../sql/gateway/realtime_note.sql"))
        .bind(&ended)
        .bind(&left)
        .bind(&ids)
        .bind(&losts)
        .bind(&refs)
        .bind(&commits)
        .bind(&changes)
        .execute(pool)
        .await;
    match written {
        Ok(_) => news.clear(),
        Err(error) => {
            tracing::warn!(%error, channels = news.len(), "what became of channels could not be noted; trying again");
            sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn forget_expired(pool: &PgPool) {
    let sql = "delete from realtime.resumable where lost_at < now() - make_interval(secs => $1)";
    if let Err(error) = sqlx::query(sql).bind(AGE.as_secs_f64()).execute(pool).await {
        tracing::warn!(%error, "channels that were lost long ago could not be forgotten");
    }
}
