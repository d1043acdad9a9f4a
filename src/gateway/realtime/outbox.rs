//! What waits to be written to a socket.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::extract::ws::Message;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::delivery::Mark;

/// Frames a socket may be behind.
const MAX_FRAMES: usize = 1_024;
/// Bytes a socket may be behind; one frame larger than this still passes when nothing else waits.
const MAX_BYTES: usize = 16 << 20;

/// The sending end of a socket. Nothing waits for a slow reader: one that is too far behind is closed.
#[derive(Clone, Debug)]
pub struct Outbox {
    frames: mpsc::Sender<Frame>,
    waiting: Arc<AtomicUsize>,
    taken: Arc<Notify>,
    overflow: CancellationToken,
}

/// A frame, and what its arrival means.
pub type Frame = (Message, Option<Mark>);

/// The writer's end.
#[derive(Debug)]
pub struct Waiting {
    frames: mpsc::Receiver<Frame>,
    waiting: Arc<AtomicUsize>,
    taken: Arc<Notify>,
}

impl Outbox {
    /// A queue and its two ends.
    pub fn new() -> (Self, Waiting) {
        let (sender, receiver) = mpsc::channel(MAX_FRAMES);
        let waiting = Arc::default();
        let taken = Arc::default();
        let outbox = Self {
            frames: sender,
            waiting: Arc::clone(&waiting),
            taken: Arc::clone(&taken),
            overflow: CancellationToken::new(),
        };
        let ends = Waiting {
            frames: receiver,
            waiting,
            taken,
        };
        (outbox, ends)
    }

    /// Puts a frame behind the others, or gives the socket up if it is too far behind.
    pub fn send(&self, frame: Message, mark: Option<Mark>) {
        let size = size(&frame);
        let before = self.waiting.fetch_add(size, Ordering::Relaxed);
        if before > 0 && before + size > MAX_BYTES || self.frames.try_send((frame, mark)).is_err() {
            self.overflow.cancel();
        }
    }

    /// Waits until less than half of what may wait does, or the socket has been given up. For one caller at a time.
    pub async fn has_room(&self) {
        while self.waiting.load(Ordering::Relaxed) > MAX_BYTES / 2 || self.frames.capacity() < MAX_FRAMES / 2 {
            tokio::select! {
                () = self.taken.notified() => {}
                () = self.overflow.cancelled() => return,
                () = self.frames.closed() => return,
            }
        }
    }

    /// Gives the socket up.
    pub fn give_up(&self) {
        self.overflow.cancel();
    }

    /// Whether the socket has been given up.
    pub fn is_given_up(&self) -> bool {
        self.overflow.is_cancelled()
    }

    /// Resolves when the socket has been given up.
    pub async fn overflowed(&self) {
        self.overflow.cancelled().await;
    }
}

impl Waiting {
    /// The next frame; `None` when no more can come.
    pub async fn next(&mut self) -> Option<Frame> {
        let frame = self.frames.recv().await?;
        self.took(&frame.0);
        Some(frame)
    }

    /// The next frame if one is here.
    pub fn try_next(&mut self) -> Option<Frame> {
        let frame = self.frames.try_recv().ok()?;
        self.took(&frame.0);
        Some(frame)
    }

    fn took(&self, frame: &Message) {
        self.waiting.fetch_sub(size(frame), Ordering::Relaxed);
        self.taken.notify_one();
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
