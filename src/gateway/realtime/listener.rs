//! The receiving end of a joined channel, as those who have something for it know it.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::Message;
use tokio::{sync::Notify, time::timeout};

use super::{
    changes::Position,
    delivery::{Delivery, Mark},
    outbox::Outbox,
    protocol::Version,
};
use crate::gateway::answers::Writer;

/// Changes that may wait for a channel's reply to its join, or for a socket that takes in what it missed.
const MAX_HELD: usize = 65_536;
/// How long changes wait at most for the answer to a write of the listener's own.
const ANSWER: Duration = Duration::from_millis(300);

/// Numbers channels of this process.
static LAST: AtomicU64 = AtomicU64::new(0);

/// A joined channel.
#[derive(Debug)]
pub struct Listener {
    /// Unlike its topic, its own in this process.
    pub id: u64,
    /// `realtime:` and its name.
    pub topic: String,
    /// The `ref` of its join.
    pub join_ref: Option<String>,
    /// What its socket speaks.
    pub version: Version,
    /// Whether it joined as before there was a `config`.
    pub legacy: bool,
    /// How far its changes have come.
    pub delivery: Arc<Delivery>,
    /// Whoever its token is of.
    writer: Mutex<Option<Arc<Writer>>>,
    /// Changes that wait until the client knows of its subscriptions, or of what it wrote.
    held: Mutex<Option<Vec<(Message, Mark)>>>,
    replay: Mutex<Replay>,
    outbox: Outbox,
    failures: Failures,
}

/// Channels of one socket that cannot go on, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Failures(Arc<Failed>);

#[derive(Debug, Default)]
struct Failed {
    ids: Mutex<Vec<u64>>,
    came: Notify,
}

impl Failures {
    fn add(&self, id: u64) {
        self.ids().push(id);
        self.0.came.notify_one();
    }

    /// The next. For one caller at a time.
    pub async fn next(&self) -> u64 {
        loop {
            if let Some(id) = self.ids().pop() {
                return id;
            }
            self.0.came.notified().await;
        }
    }

    fn ids(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages of the database that a channel has had, as far as they may come to it twice.
#[derive(Debug, Default)]
struct Replay {
    ids: HashSet<String>,
    over: bool,
}

impl Listener {
    /// A channel of a socket. Its number is among its `failures`, once for each reason, when it cannot go on.
    pub fn new(
        topic: String,
        join_ref: Option<String>,
        version: Version,
        legacy: bool,
        outbox: Outbox,
        failures: Failures,
    ) -> Arc<Self> {
        Arc::new(Self {
            legacy,
            id: LAST.fetch_add(1, Ordering::Relaxed),
            topic,
            join_ref,
            version,
            delivery: Arc::default(),
            writer: Mutex::default(),
            held: Mutex::new(Some(Vec::new())),
            replay: Mutex::default(),
            outbox,
            failures,
        })
    }

    /// The channel's name, without `realtime:`.
    pub fn subtopic(&self) -> &str {
        self.topic.strip_prefix("realtime:").unwrap_or(&self.topic)
    }

    /// Sends a frame as it is.
    pub fn send(&self, frame: Message) {
        self.outbox.send(frame, None);
    }

    /// Sends a message of the database with an id, unless the channel has had it: it may come with a replay and live.
    pub fn send_message(&self, frame: Message, id: &str) {
        {
            let mut replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
            if replay.ids.contains(id) {
                return;
            }
            if !replay.over {
                replay.ids.insert(id.to_owned());
            }
        }
        self.send(frame);
    }

    /// Everything of before has been sent, or nothing of it was wanted.
    pub fn replayed(&self) {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner).over = true;
    }

    /// Says who may have made a change himself.
    pub fn belongs_to(&self, writer: Option<Arc<Writer>>) {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = writer;
    }

    /// Sends a change of the database, behind those before it.
    pub fn send_change(self: &Arc<Self>, frame: Message, position: Position) {
        self.delivery.sent(position);
        let mark = Mark {
            delivery: Arc::clone(&self.delivery),
            position,
        };
        let mut held = self.held();
        if held.is_none()
            && let Some(writer) = self.unanswered()
        {
            *held = Some(Vec::new());
            tokio::spawn(Arc::clone(self).send_answered(writer));
        }
        match &mut *held {
            Some(held) if held.len() < MAX_HELD => held.push((frame, mark)),
            Some(_) => self.outbox.give_up(),
            None => self.outbox.send(frame, Some(mark)),
        }
    }

    /// Sends the changes that waited for the reply, no faster than the client reads, and from here on at once.
    pub async fn release(&self) {
        loop {
            let waiting = match &mut *self.held() {
                Some(held) if !held.is_empty() => std::mem::take(held),
                held => {
                    *held = None;
                    return;
                }
            };
            for (frame, mark) in waiting {
                self.outbox.has_room().await;
                self.outbox.send(frame, Some(mark));
            }
        }
    }

    fn unanswered(&self) -> Option<Arc<Writer>> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.as_ref().filter(|writer| writer.is_unanswered()).cloned()
    }

    /// Sends each change that waits once the writes are answered that had begun when it came.
    async fn send_answered(self: Arc<Self>, writer: Arc<Writer>) {
        loop {
            let count = self.held().as_ref().map_or(0, Vec::len);
            // Who waits longer for an answer is told the changes meanwhile.
            let _ = timeout(ANSWER, writer.answered()).await;
            let mut held = self.held();
            let Some(waiting) = &mut *held else { return };
            for (frame, mark) in waiting.drain(..count) {
                self.outbox.send(frame, Some(mark));
            }
            if waiting.is_empty() {
                *held = None;
                return;
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Vec<(Message, Mark)>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an event of the channel; `payload` is JSON text.
    pub fn push(&self, event: &str, payload: &str) {
        self.send(
            self.version
                .text(self.join_ref.as_deref(), None, &self.topic, event, payload),
        );
    }

    /// Tells how an extension of the channel is.
    pub fn system(&self, extension: &str, status: &str, message: &str) {
        let payload = serde_json::json!({
            "extension": extension, "status": status, "message": message, "channel": self.subtopic(),
        });
        self.push("system", &payload.to_string());
    }

    /// Ends the channel in a way that makes the client join again.
    pub fn fail(&self) {
        self.failures.add(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::answers::Answers;

    #[tokio::test]
    async fn a_change_waits_for_the_answer_to_a_write_of_ones_own() {
        let (outbox, mut waiting) = Outbox::new();
        let listener = Listener::new(
            "realtime:t".into(),
            None,
            Version::V2,
            false,
            outbox,
            Failures::default(),
        );
        listener.release().await;
        let send = |text: &'static str| listener.send_change(Message::text(text), Position::default());
        send("before");
        assert_eq!(
            waiting.try_next().map(|(frame, _)| frame),
            Some(Message::text("before"))
        );

        let writer = Arc::new(Answers::default()).writer([7; 32]);
        listener.belongs_to(Some(Arc::clone(&writer)));
        let unanswered = writer.begin();
        send("own");
        tokio::task::yield_now().await;
        assert!(waiting.try_next().is_none());
        drop(unanswered);
        send("next");
        for text in ["own", "next"] {
            assert_eq!(waiting.next().await.0, Message::text(text));
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_long() {
        let (outbox, mut waiting) = Outbox::new();
        let listener = Listener::new(
            "realtime:t".into(),
            None,
            Version::V2,
            false,
            outbox,
            Failures::default(),
        );
        listener.release().await;
        let writer = Arc::new(Answers::default()).writer([7; 32]);
        listener.belongs_to(Some(Arc::clone(&writer)));
        let unanswered = writer.begin();
        listener.send_change(Message::text("own"), Position::default());
        assert_eq!(waiting.next().await.0, Message::text("own"));
        drop(unanswered);
    }
}
