//! The writing end of a websocket: what waits for it, as fast as the other side reads, and a last word.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::extract::ws::{CloseCode, CloseFrame, Message, WebSocket, close_code};
use futures_util::{SinkExt, stream::SplitSink};
use tokio::{sync::oneshot, time::timeout};

use super::{
    delivery::Receipts,
    outbox::{Outbox, Waiting},
};

/// How long one frame may take to be written.
const WRITE: Duration = Duration::from_secs(30);
/// How long the last frames may take to be written.
pub const FAREWELL: Duration = Duration::from_secs(2);
/// Changes written in one go for which one receipt will do.
const RECEIPT_EVERY: u32 = 32;

/// Why a socket is closed; any code but 1000 makes clients connect again.
pub type Farewell = (CloseCode, &'static str);

/// The client has gone.
pub const GONE: Farewell = (close_code::NORMAL, "");
/// What it sent is no websocket frame, or one too large.
pub const BROKEN: Farewell = (close_code::PROTOCOL, "what was sent cannot be read, or is too large");
/// It said nothing for too long.
pub const SILENT: Farewell = (close_code::AWAY, "nothing was heard in time");
/// It joined too often.
pub const TOO_MANY_JOINS: Farewell = (close_code::AGAIN, "too many joins per second");
/// It does not read what is sent to it.
pub const TOO_SLOW: Farewell = (close_code::AGAIN, "too far behind in reading what is sent");
/// The gateway stops.
pub const RESTART: Farewell = (close_code::RESTART, "");

/// Writes what waits until it is told to finish or the other side stops reading.
pub async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut waiting: Waiting,
    finish: oneshot::Receiver<Farewell>,
    outbox: Outbox,
    receipts: Arc<Receipts>,
) {
    let farewell = tokio::select! {
        _ = pump(&mut sink, &mut waiting, &receipts) => None,
        farewell = finish => farewell.ok(),
    };
    let Some((code, reason)) = farewell else {
        outbox.give_up();
        return;
    };
    // A last word, if the other side still reads.
    let last = async {
        while let Some((frame, _)) = waiting.try_next() {
            sink.feed(frame).await?;
        }
        let reason = reason.into();
        sink.send(Message::Close(Some(CloseFrame { code, reason }))).await
    };
    // Whoever does not listen to it finds the connection closed.
    let _ = timeout(FAREWELL, last).await;
}

/// What is there at once goes out in one flush, and a request for the receipt with it.
async fn pump(
    sink: &mut SplitSink<WebSocket, Message>,
    waiting: &mut Waiting,
    receipts: &Receipts,
) -> Result<Infallible, axum::Error> {
    loop {
        let first = waiting.next().await;
        let written = async {
            let (mut frame, mut unasked) = (Some(first), 0);
            while let Some((next, mark)) = frame {
                sink.feed(next).await?;
                if let Some(mark) = mark {
                    receipts.written(mark);
                    unasked += 1;
                }
                frame = waiting.try_next();
                if unasked >= RECEIPT_EVERY
                    && let Some(ping) = receipts.ask()
                {
                    sink.feed(ping).await?;
                    unasked = 0;
                }
            }
            if let Some(ping) = receipts.ask() {
                sink.feed(ping).await?;
            }
            sink.flush().await
        };
        timeout(WRITE, written).await.map_err(axum::Error::new)??;
    }
}
