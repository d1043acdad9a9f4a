//! Sockets that do nothing: what each holds of the server's memory, open and with a joined channel.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use tokio::{
    sync::{Barrier, Semaphore},
    task::JoinSet,
    time::{Duration, Instant, sleep},
};

use super::Bench;
use crate::{
    cost::memory,
    socket::{self, Socket},
    table::{heading, line},
};

/// How many connect at one time.
const AT_ONCE: usize = 64;
/// What the allocator gives back it has given back by then.
const SETTLE: Duration = Duration::from_secs(2);

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let count = bench.options.idle;
    heading(&format!(
        "{count} idle sockets, {} people",
        bench.data.sessions.len() * 2
    ));
    // What the parts before needed would be there to be used again.
    bench.server.restart("TERM").await?;
    bench.server.ready().await?;
    bench.database = bench.server.connect().await?;
    let (server, sessions) = (bench.server.id(), bench.sessions(usize::MAX));
    let (limit, steps) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Barrier::new(count + 1)));
    let failed = Arc::new(AtomicUsize::new(0));
    let mut sockets = JoinSet::new();
    let before = memory(server)?;
    let (begin, taken) = (Instant::now(), bench.taken().await?);
    for at in 0..count {
        let (limit, steps, failed) = (Arc::clone(&limit), Arc::clone(&steps), Arc::clone(&failed));
        let (address, sessions) = (bench.address.clone(), Arc::clone(&sessions));
        sockets.spawn(async move {
            let opened = {
                let _place = limit.acquire().await;
                let opened = async {
                    let mut socket = Socket::open(&address, 0).await?;
                    socket.heartbeat().await?;
                    anyhow::Ok(socket)
                };
                opened.await
            };
            steps.wait().await;
            steps.wait().await;
            let joined = async {
                let mut socket = opened?;
                let _place = limit.acquire().await;
                let session = &sessions[at / 2 % sessions.len()];
                let filter = format!("session_id=eq.{}", session.id);
                let config = socket::changes("chat_messages", Some(&filter));
                let token = &session.people[at % 2].token;
                socket
                    .join(&format!("realtime:chat:{}", session.id), &config, token)
                    .await?;
                anyhow::Ok(socket)
            };
            let joined = joined.await;
            if let Err(error) = &joined
                && failed.fetch_add(1, Ordering::Relaxed) == 0
            {
                eprintln!("a socket failed: {error:#}");
            }
            steps.wait().await;
            steps.wait().await;
            drop(joined);
        });
    }
    let each = |now: f64| format!("{:.1} KiB", (now - before) / count as f64);
    steps.wait().await;
    let opened = format!(
        "{} each, {:.1} s",
        taken.spent(&bench.database).await?.each(count),
        begin.elapsed().as_secs_f64()
    );
    sleep(SETTLE).await;
    line("open, after a heartbeat", &each(memory(server)?), &opened);

    let (begin, taken) = (Instant::now(), bench.taken().await?);
    steps.wait().await;
    steps.wait().await;
    let joined = format!(
        "{} each, {:.1} s",
        taken.spent(&bench.database).await?.each(count),
        begin.elapsed().as_secs_f64()
    );
    sleep(SETTLE).await;
    line("with a channel of changes each", &each(memory(server)?), &joined);
    steps.wait().await;
    sockets.join_all().await;
    sleep(SETTLE).await;
    line(
        "gone again",
        &each(memory(server)?),
        &format!("{} failed", failed.load(Ordering::Relaxed)),
    );
    Ok(())
}
