//! The server goes away and everybody comes back at once, by the clock that realtime-js has: how long until all are
//! live again, and whether anything is missing of what was committed meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, error::Elapsed, sleep, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use super::Bench;
use crate::{
    data::Session,
    socket::{self, Address, Socket},
    table::{heading, line},
    tally::{Note, Tally},
    write::Table,
};

/// What a socket waits before it connects again, and a channel before it joins again, in realtime-js.
const AGAIN: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
const ROOM: usize = 20_000;
/// Messages a second, before, during and after.
const RATE: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(45);

/// What the clients and we share.
struct Shared {
    address: Address,
    sessions: Arc<Vec<Session>>,
    tally: Tally,
    live: AtomicUsize,
    /// Attempts to connect, and to join, that failed.
    refused: AtomicUsize,
    unanswered: AtomicUsize,
    /// Only the first time they come one after another.
    limit: Semaphore,
    over: AtomicBool,
}

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let sessions = bench.sessions(usize::MAX);
    let clients = sessions.len() * 2;
    heading(&format!(
        "a restart under {clients} clients with a channel of changes each, {RATE} messages/s"
    ));
    for (signal, text) in [("TERM", "stopped (SIGTERM)"), ("KILL", "killed (SIGKILL)")] {
        let shared = Arc::new(Shared {
            address: bench.address.clone(),
            sessions: Arc::clone(&sessions),
            tally: Tally::new(ROOM),
            live: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            limit: Semaphore::new(64),
            over: AtomicBool::new(false),
        });
        let (came, mut coming) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for at in 0..clients {
            tasks.spawn(stay(at, Arc::clone(&shared), came.clone()));
        }
        all_live(&shared, &mut coming, clients).await.context("before")?;
        // Names are per run: messages of the one before are not found again.
        bench.database.batch_execute("truncate public.chat_messages").await?;
        let writer = tokio::spawn(write(Arc::clone(&shared), bench.server.socket().display().to_string()));
        sleep(Duration::from_secs(2)).await;
        while coming.try_recv().is_ok() {}
        shared.refused.store(0, Ordering::Relaxed);
        let begin = Instant::now();
        shared.live.store(0, Ordering::Relaxed);
        bench.server.restart(signal).await?;
        let down = begin.elapsed();
        bench.server.ready().await?;
        let ready = begin.elapsed();
        bench.database = bench.server.connect().await?;
        let taken = bench.taken().await?;
        let back = all_live(&shared, &mut coming, clients).await;
        let spent = taken.spent(&bench.database).await?.each(clients);
        let took = begin.elapsed();
        sleep(Duration::from_secs(1)).await;
        shared.over.store(true, Ordering::Relaxed);
        writer.await??;
        let rows = bench
            .database
            .query(
                "select message from public.chat_messages where message like 'bench#%'",
                &[],
            )
            .await?;
        let committed: Vec<usize> = rows
            .iter()
            .filter_map(|row| Some(Note::find(row.get(0))?.number))
            .collect();
        shared
            .tally
            .complete(committed.len() * 2, Duration::from_secs(10))
            .await;
        let faults = shared.tally.faults(committed.iter().copied());
        let figure = if back.is_ok() {
            format!("{:.2} s", took.as_secs_f64())
        } else {
            "never".to_owned()
        };
        let other = format!(
            "down {:.2} s, ready after {:.2} s; {spent} a client; {} refused, {} joins unanswered",
            down.as_secs_f64(),
            ready.as_secs_f64(),
            shared.refused.load(Ordering::Relaxed),
            shared.unanswered.load(Ordering::Relaxed)
        );
        line(&format!("{text}: until all are live"), &figure, &other);
        line(
            "  what should not be",
            "",
            &format!("{faults}, of {} messages", committed.len()),
        );
        back?;
    }
    Ok(())
}

/// Waits until so many have joined.
async fn all_live(shared: &Shared, coming: &mut mpsc::UnboundedReceiver<()>, clients: usize) -> Result<()> {
    let wait = async {
        while shared.live.load(Ordering::Relaxed) < clients {
            coming.recv().await;
        }
    };
    let outcome = timeout(PATIENCE, wait).await;
    outcome.with_context(|| format!("{} of {clients} are live", shared.live.load(Ordering::Relaxed)))
}

/// One client: it is here, or comes back.
async fn stay(at: usize, shared: Arc<Shared>, came: mpsc::UnboundedSender<()>) {
    let (session, person) = (at / 2, at % 2);
    let Session { id, people } = &shared.sessions[session];
    let (topic, filter) = (format!("realtime:chat:{id}"), format!("session_id=eq.{id}"));
    let config = socket::changes("chat_messages", Some(&filter));
    let (mut reference, mut tries, mut first) = (0, 0, true);
    loop {
        let place = if first { shared.limit.acquire().await.ok() } else { None };
        let mut socket = match Socket::open(&shared.address, reference).await {
            Ok(socket) => socket,
            Err(_) => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                tries += 1;
                sleep(AGAIN[tries.min(3)]).await;
                continue;
            }
        };
        tries = 0;
        let mut joins = 0;
        while let Err(error) = socket.join(&topic, &config, &people[person].token).await {
            if error.downcast_ref::<Elapsed>().is_none() {
                break;
            }
            shared.unanswered.fetch_add(1, Ordering::Relaxed);
            sleep(AGAIN[joins.min(3)]).await;
            joins += 1;
        }
        if socket.is_joined() {
            shared.live.fetch_add(1, Ordering::Relaxed);
            let _ = came.send(());
        }
        drop(place);
        first = false;
        while let Ok(frame) = socket.next().await {
            if let Message::Text(text) = frame
                && let Some(note) = Note::find(&text)
            {
                shared.tally.arrive(note, session, person);
            }
        }
        reference = socket.reference;
        sleep(AGAIN[0]).await;
    }
}

/// Writes at a pace, whenever there is a Postgres to write to.
async fn write(shared: Arc<Shared>, folder: String) -> Result<()> {
    let config = format!(
        "host={folder} port=5432 dbname=postgres user=supabase_admin application_name={}",
        crate::cost::OURS
    );
    let mut number = 0;
    while !shared.over.load(Ordering::Relaxed) {
        let Ok((client, connection)) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        tokio::spawn(connection);
        let Ok(statement) = client.prepare(Table::Chat.statement()).await else {
            continue;
        };
        while !shared.over.load(Ordering::Relaxed) {
            let session = number * 7_919 % shared.sessions.len();
            let Session { id, people } = &shared.sessions[session];
            let (sender, kind) = [(&people[0].id, "customer"), (&people[1].id, "agent")][number % 2];
            let text = Note { number, session }.text();
            number += 1;
            // Whether one that failed is there will be seen.
            if client.execute(&statement, &[id, sender, &kind, &text]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1) / RATE).await;
        }
    }
    Ok(())
}
