//! Whose writes are not answered yet: what somebody changed himself is not told him before the answer.
//!
//! A commit can be read in the log before the client that asked for it has its answer. Programs compare the rows they
//! are told of with those they wrote, and know a row of their own by the id in the answer: told too early they take it
//! for somebody else's, and show it twice.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{Method, header},
    response::Response,
};
use http_body_util::BodyExt;
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time::sleep};

/// How long after it was written an answer counts as received.
const ON_ITS_WAY: Duration = Duration::from_millis(10);

/// SHA-256 of a token's text.
type Digest = [u8; 32];

/// Who listens, by his token.
#[derive(Debug, Default)]
pub struct Answers {
    writers: Mutex<HashMap<Digest, Weak<Writer>>>,
}

/// Somebody who listens, and may write.
#[derive(Debug)]
pub struct Writer {
    token: Digest,
    answers: Weak<Answers>,
    writes: watch::Sender<Writes>,
}

/// Writes by number.
#[derive(Debug, Default)]
struct Writes {
    last: u64,
    unanswered: BTreeSet<u64>,
}

impl Answers {
    /// Whoever has this token, for as long as somebody holds it.
    pub fn writer(self: &Arc<Self>, token: Digest) -> Arc<Writer> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = writers.get(&token).and_then(Weak::upgrade) {
            return known;
        }
        let writer = Arc::new(Writer {
            token,
            answers: Arc::downgrade(self),
            writes: watch::Sender::default(),
        });
        writers.insert(token, Arc::downgrade(&writer));
        writer
    }

    fn listening(&self, token: Digest) -> Option<Arc<Writer>> {
        let writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.get(&token)?.upgrade()
    }
}

impl Writer {
    /// Whether a write of his is not answered yet.
    pub fn is_unanswered(&self) -> bool {
        !self.writes.borrow().unanswered.is_empty()
    }

    /// Waits until all that have begun are.
    pub async fn answered(&self) {
        let last = self.writes.borrow().last;
        let all = |writes: &Writes| writes.unanswered.first().is_none_or(|first| *first > last);
        // Its sender is here.
        let _ = self.writes.subscribe().wait_for(all).await;
    }

    /// Notes a write.
    pub fn begin(self: &Arc<Self>) -> Unanswered {
        let mut number = 0;
        self.writes.send_modify(|writes| {
            writes.last += 1;
            number = writes.last;
            writes.unanswered.insert(number);
        });
        Unanswered {
            writer: Arc::clone(self),
            number,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Some(answers) = self.answers.upgrade() else { return };
        let mut writers = answers.writers.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may have come for the same token since.
        if writers
            .get(&self.token)
            .is_some_and(|writer| writer.strong_count() == 0)
        {
            writers.remove(&self.token);
        }
    }
}

/// A write that is not answered; it is a little after this has gone.
#[derive(Debug)]
pub struct Unanswered {
    writer: Arc<Writer>,
    number: u64,
}

impl Unanswered {
    fn pass<T>(&self, value: T) -> T {
        value
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let (writer, number) = (Arc::clone(&self.writer), self.number);
        tokio::spawn(async move {
            sleep(ON_ITS_WAY).await;
            writer.writes.send_modify(|writes| {
                writes.unanswered.remove(&number);
            });
        });
    }
}

/// Notes a write, and its answer. For a service that takes `Authorization` as the gateway passes it on.
pub async fn note<A: Future<Output = Response>>(
    answers: &Answers,
    request: Request,
    answer: impl FnOnce(Request) -> A,
) -> Response {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    let authorization = request.headers().get(header::AUTHORIZATION);
    let token = authorization.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let writer = token
        .filter(|_| !reads)
        .and_then(|token| answers.listening(Sha256::digest(token).into()));
    let Some(unanswered) = writer.map(|writer| writer.begin()) else {
        return answer(request).await;
    };
    let answer = answer(request).await;
    // It lives as long as the body: until the answer is written or given up.
    answer.map(|body| Body::new(body.map_err(move |error| unanswered.pass(error))))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_listens_is_known_until_he_goes() {
        let answers = Arc::new(Answers::default());
        let token = [7; 32];
        assert!(answers.listening(token).is_none());
        let (one, two) = (answers.writer(token), answers.writer(token));
        assert!(Arc::ptr_eq(&one, &two) && !one.is_unanswered());
        let writes = [one.begin(), answers.listening(token).unwrap().begin()];
        assert!(two.is_unanswered() && two.answered().now_or_never().is_none());
        drop(writes);
        assert!(two.is_unanswered(), "the answer is on its way");
        let mut until_now = Box::pin(two.answered());
        assert!((&mut until_now).now_or_never().is_none());
        let later = one.begin();
        until_now.await;
        assert!(one.is_unanswered(), "one that began meanwhile is not waited for");
        drop(later);
        one.answered().await;
        assert!(!one.is_unanswered());
        drop((one, two));
        tokio::task::yield_now().await;
        assert!(answers.writers.lock().unwrap().is_empty());
    }
}
