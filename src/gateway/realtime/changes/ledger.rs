//! What the database knows of this gateway's channels: that they are there, and how far they are, for the gateway that
//! comes after this one or stands beside it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::PgPool;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::{feed::Delivered, position::Position, resume::Resumable};
use crate::{gateway::realtime::cluster::Cluster, shutdown::Shutdown};

/// How long a client that was lost is known: longer than what it missed is kept, so that it is told.
pub const REMEMBERED: Duration = Duration::from_secs(3_600);

/// How long news is gathered before it is written: after this time at the latest a killed gateway's successor knows.
const GATHER: Duration = Duration::from_millis(100);
/// How often is noted how far all are.
const NOTE: Duration = Duration::from_secs(1);
/// The same while nothing changes.
const NOTE_IDLE: Duration = Duration::from_secs(5);
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
        /// Where it goes on; nothing if that is noted already.
        from: Option<Position>,
    },
}

/// Where news goes.
pub type Sender = mpsc::UnboundedSender<(Uuid, News)>;

/// Writes news, many at once, until every socket has ended.
#[derive(Debug)]
pub struct Ledger {
    /// The database.
    pub pool: PgPool,
    /// This gateway's channels.
    pub resumable: Arc<Resumable>,
    /// How far the stream has been delivered.
    pub delivered: Arc<Delivered>,
    /// This gateway among the others.
    pub cluster: Arc<Cluster>,
    /// What there is to write.
    pub incoming: mpsc::UnboundedReceiver<(Uuid, News)>,
    /// How long a lost client may be away.
    pub window: Duration,
}

/// What has not been written yet.
#[derive(Debug)]
struct Unwritten {
    news: HashMap<Uuid, News>,
    /// Before which place everybody was noted to have had everything, and when.
    noted: (Position, Instant),
}

impl Ledger {
    /// Runs until every socket has ended.
    pub async fn keep(mut self, stop: Shutdown) {
        let mut unwritten = Unwritten {
            news: HashMap::new(),
            noted: (Position::default(), Instant::now()),
        };
        let mut expired = Instant::now();
        loop {
            match stop
                .token()
                .run_until_cancelled(timeout(NOTE, self.incoming.recv()))
                .await
            {
                None | Some(Ok(None)) => break,
                Some(Ok(Some((id, first)))) => {
                    merge(&mut unwritten.news, id, first);
                    // together with what comes meanwhile
                    stop.token().run_until_cancelled(sleep(GATHER)).await;
                }
                Some(Err(_)) => {}
            }
            self.write(&mut unwritten).await;
            if expired.elapsed() > EXPIRE {
                expired = Instant::now();
                self.resumable.expire(self.window);
                forget_expired(&self.pool).await;
            }
        }
        let last = async {
            while !self.resumable.is_quiet() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        // Who does not end in time is found lost by the next start.
        let _ = timeout(FAREWELL, last).await;
        self.write(&mut unwritten).await;
    }

    /// Before which place all clients of this gateway have had everything, if that is to be noted: something changed
    /// since, or the log has gone on where another gateway may take them over.
    fn progress(&self, (noted, since): (Position, Instant)) -> Option<Position> {
        let delivered = self.delivered.get();
        let place = self
            .resumable
            .behind()
            .map_or(delivered, |behind| behind.min(delivered));
        let changed = self.delivered.last_change() > noted;
        let aged = since.elapsed() > NOTE_IDLE && !self.cluster.is_alone();
        (place.commit > noted.commit && (changed || aged)).then_some(place)
    }

    async fn write(&mut self, Unwritten { news, noted }: &mut Unwritten) {
        // Before the news are taken: who is lost meanwhile is among them.
        let progress = self.progress(*noted);
        while let Ok((id, next)) = self.incoming.try_recv() {
            merge(news, id, next);
        }
        if news.is_empty() && progress.is_none() {
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
                    commits.push(from.map(Position::lsn));
                    changes.push(from.map(|from| i64::from(from.change)));
                }
            }
        }
        let held = *self.cluster.held().borrow();
        let written = sqlx::query(include_str!("../../../../sql/gateway/realtime_note.sql"))
            .bind(&ended)
            .bind(&left)
            .bind(&ids)
            .bind(&losts)
            .bind(&refs)
            .bind(&commits)
            .bind(&changes)
            .bind(held.filter(|_| progress.is_some()).map(|held| held.node.name()))
            .bind(progress.unwrap_or_default().lsn())
            .execute(&self.pool)
            .await;
        match written {
            Ok(_) => {
                news.clear();
                if let Some(place) = progress {
                    *noted = (place, Instant::now());
                }
            }
            Err(error) => {
                tracing::warn!(%error, channels = news.len(), "what became of channels could not be noted; trying again");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// What was said last counts, but nothing comes after the end.
fn merge(news: &mut HashMap<Uuid, News>, id: Uuid, next: News) {
    let known = news.entry(id).or_insert(next);
    if !matches!(known, News::Left | News::At { lost: true, .. }) || matches!(next, News::Left) {
        *known = next;
    }
}

async fn forget_expired(pool: &PgPool) {
    let sql = "delete from realtime.resumable where lost_at < now() - make_interval(secs => $1)";
    if let Err(error) = sqlx::query(sql).bind(REMEMBERED.as_secs_f64()).execute(pool).await {
        tracing::warn!(%error, "channels that were lost long ago could not be forgotten");
    }
}
