//! What waits to be written to a socket.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::extract::ws::Message;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::delivery::Mark;

/// Frames a socket may be behind.
const MAX_FRAMES: usize = 1_024;
/// Bytes a socket may be behind; one frame larger than this still passes when nothing else waits.
const MAX_BYTES: usize = 16 << 20;
/// Frames that an empty queue keeps room for: most sockets say little, and there are thousands.
const KEPT_FRAMES: usize = 8;

/// The sending end of a socket. Nothing waits for a slow reader: one that is too far behind is closed.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Queue>);

/// A frame, and what its arrival means.
pub type Frame = (Message, Option<Mark>);

/// The writer's end.
#[derive(Debug)]
pub struct Waiting(Arc<Queue>);

/// What both ends share. A channel of tokio's would hold a block of 32 frames for each socket, idle or not.
#[derive(Debug, Default)]
struct Queue {
    frames: Mutex<Frames>,
    came: Notify,
    taken: Notify,
    overflow: CancellationToken,
}

#[derive(Debug, Default)]
struct Frames {
    waiting: VecDeque<Frame>,
    bytes: usize,
}

impl Outbox {
    /// A queue and its two ends.
    pub fn new() -> (Self, Waiting) {
        let queue = Arc::<Queue>::default();
        (Self(Arc::clone(&queue)), Waiting(queue))
    }

    /// Puts a frame behind the others, or gives the socket up if it is too far behind.
    pub fn send(&self, frame: Message, mark: Option<Mark>) {
        let size = size(&frame);
        {
            let mut frames = self.0.frames();
            let behind = frames.bytes > 0 && frames.bytes + size > MAX_BYTES;
            if behind || frames.waiting.len() == MAX_FRAMES {
                self.0.overflow.cancel();
                return;
            }
            frames.bytes += size;
            frames.waiting.push_back((frame, mark));
        }
        self.0.came.notify_one();
    }

    /// Waits until less than half of what may wait does, or the socket has been given up. For one caller at a time.
    pub async fn has_room(&self) {
        while self.0.frames().is_half_full() {
            tokio::select! {
                () = self.0.taken.notified() => {}
                () = self.0.overflow.cancelled() => return,
            }
        }
    }

    /// Gives the socket up.
    pub fn give_up(&self) {
        self.0.overflow.cancel();
    }

    /// Whether the socket has been given up.
    #[cfg(test)]
    pub fn is_given_up(&self) -> bool {
        self.0.overflow.is_cancelled()
    }

    /// Resolves when the socket has been given up.
    pub async fn overflowed(&self) {
        self.0.overflow.cancelled().await;
    }
}

impl Waiting {
    /// The next frame.
    pub async fn next(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.try_next() {
                return frame;
            }
            self.0.came.notified().await;
        }
    }

    /// The next frame if one is here.
    pub fn try_next(&mut self) -> Option<Frame> {
        let frame = {
            let mut frames = self.0.frames();
            let frame = frames.waiting.pop_front()?;
            frames.bytes -= size(&frame.0);
            if frames.waiting.is_empty() {
                frames.waiting.shrink_to(KEPT_FRAMES);
            }
            frame
        };
        self.0.taken.notify_one();
        Some(frame)
    }
}

impl Drop for Waiting {
    /// Nobody waits for room where nothing is written any more.
    fn drop(&mut self) {
        self.0.overflow.cancel();
    }
}

impl Queue {
    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frames {
    fn is_half_full(&self) -> bool {
        self.bytes > MAX_BYTES / 2 || self.waiting.len() > MAX_FRAMES / 2
    }
}

fn size(frame: &Message) -> usize {
    match frame {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_reader_too_far_behind_is_given_up() {
        let (outbox, mut waiting) = Outbox::new();
        for _ in 0..MAX_FRAMES {
            outbox.send(Message::text("x"), None);
        }
        assert!(outbox.overflowed().now_or_never().is_none());
        assert!(waiting.try_next().is_some());
        outbox.send(Message::text("x"), None);
        assert!(outbox.overflowed().now_or_never().is_none());
        outbox.send(Message::text("x"), None);
        assert!(outbox.overflowed().now_or_never().is_some());
    }

    #[test]
    fn bytes_count_too() {
        let (outbox, _waiting) = Outbox::new();
        outbox.send(Message::text("x".repeat(MAX_BYTES + 1)), None);
        assert!(outbox.overflowed().now_or_never().is_none());
        outbox.send(Message::text("x"), None);
        assert!(outbox.overflowed().now_or_never().is_some());
    }
}
