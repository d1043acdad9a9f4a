//! One speaks and a thousand listen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use serde_json::json;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_tungstenite::tungstenite::Message;

use super::Bench;
use crate::{
    socket::Socket,
    table::{heading, line},
    tally::{Delays, now},
};

const LISTENERS: usize = 1_000;
const TOPIC: &str = "realtime:bench";
/// Broadcasts under way when it goes flat out.
const UNDER_WAY: usize = 8;
/// How long the last may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// Less than a socket may send, on average over ten seconds.
const MOST: u32 = 4_000;

pub async fn run(bench: &mut Bench<'_>) -> Result<()> {
    heading(&format!("broadcast, 1 to {LISTENERS}"));
    let config = json!({ "broadcast": { "ack": false, "self": false }, "private": false });
    let arrived = Arc::new(AtomicUsize::new(0));
    let (delay, mut delays) = mpsc::unbounded_channel();
    let mut listening = JoinSet::new();
    for _ in 0..LISTENERS {
        let mut socket = Socket::open(&bench.address, 0).await?;
        socket.join(TOPIC, &config, &bench.address.key).await?;
        let (arrived, delay) = (Arc::clone(&arrived), delay.clone());
        listening.spawn(async move {
            while let Ok(frame) = socket.next().await {
                if let Message::Binary(data) = frame
                    && let Some(sent) = sent_at(&data)
                {
                    let _ = delay.send(now().saturating_sub(sent));
                    arrived.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let mut speaker = Socket::open(&bench.address, 0).await?;
    speaker.join(TOPIC, &config, &bench.address.key).await?;
    let (mut sent, seconds) = (0_u32, bench.options.seconds);
    for pace in [Some(10), None] {
        let (start, first, taken) = (Instant::now(), sent, bench.taken().await?);
        while start.elapsed() < seconds && sent < MOST {
            match pace {
                Some(rate) => {
                    sleep_until(start + Duration::from_secs_f64(f64::from(sent - first) / f64::from(rate))).await
                }
                None => {
                    while (sent as usize).saturating_sub(arrived.load(Ordering::Relaxed) / LISTENERS) >= UNDER_WAY {
                        sleep(Duration::from_micros(200)).await;
                    }
                }
            }
            let payload = format!(
                "{{\"at\":{},\"text\":\"Hello, is anybody there who could help me?\"}}",
                now()
            );
            speaker.broadcast(TOPIC, "message", &payload).await?;
            sent += 1;
        }
        let due = sent as usize * LISTENERS;
        let deadline = Instant::now() + PATIENCE;
        while arrived.load(Ordering::Relaxed) < due && Instant::now() < deadline {
            sleep(Duration::from_millis(1)).await;
        }
        let took = start.elapsed().as_secs_f64();
        let spent = taken.spent(&bench.database).await?;
        sleep(Duration::from_millis(200)).await;
        let count = (sent - first) as usize * LISTENERS;
        let text = pace.map_or_else(
            || format!("flat out, {UNDER_WAY} under way"),
            |rate| format!("{rate} broadcasts/s"),
        );
        let seen = Delays::of(std::iter::from_fn(|| delays.try_recv().ok()));
        line(
            &format!("{text}: deliveries"),
            &format!("{:.0}/s", count as f64 / took),
            &seen.to_string(),
        );
        line("  processor time a delivery", "", &spent.fine(count));
        let difference = due as i64 - arrived.load(Ordering::Relaxed) as i64;
        line(
            "  what should not be",
            "",
            &format!("{difference} lost or, below zero, twice"),
        );
    }
    Ok(())
}

/// When a broadcast was sent, in microseconds since 1970.
fn sent_at(frame: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(frame);
    let digits = text.split_once("\"at\":")?.1;
    digits[..digits.find(',')?].parse().ok()
}
