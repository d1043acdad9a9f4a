//! What is known to have arrived at a client. A frame that was written may still be lost with its connection: the
//! client's WebSocket answers a ping after everything before it, so a pong is the receipt.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::extract::ws::Message;

use super::changes::Position;

/// Changes of one channel without a receipt that are remembered. A client that never answers pings has none.
const MAX_UNRECEIVED: usize = 4_096;

/// How far one channel is.
#[derive(Debug, Default)]
pub struct Delivery {
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    /// Sent, and not known to have arrived, in their order.
    sent: VecDeque<Position>,
    /// The last that arrived.
    arrived: Option<Position>,
    /// Where a client that is back goes on, until it has been sent what it missed.
    goes_on_at: Option<Position>,
}

impl Delivery {
    /// A change is on its way.
    pub fn sent(&self, position: Position) {
        let mut places = self.lock();
        if places.sent.len() == MAX_UNRECEIVED {
            places.arrived = places.sent.pop_front();
        }
        places.sent.push_back(position);
    }

    /// It has arrived, and all before it.
    pub fn arrived(&self, position: Position) {
        let mut places = self.lock();
        while places.sent.front().is_some_and(|sent| *sent <= position) {
            places.sent.pop_front();
        }
        places.arrived = places.arrived.max(Some(position));
    }

    /// The client is back, and is sent what is missing from here on.
    pub fn goes_on_at(&self, from: Position) {
        self.lock().goes_on_at = Some(from);
    }

    /// It has been sent what it missed.
    pub fn caught_up(&self) {
        self.lock().goes_on_at = None;
    }

    /// Whether something is on its way.
    pub fn is_underway(&self) -> bool {
        let places = self.lock();
        !places.sent.is_empty() || places.goes_on_at.is_some()
    }

    /// Where a client that was lost now has to go on, when everything before `next` was looked at for it.
    pub fn resume_at(&self, next: Position) -> Position {
        let places = self.lock();
        let behind_arrived = places.arrived.map_or(Position::default(), Position::next);
        let next = places.goes_on_at.unwrap_or(next);
        places.sent.front().copied().unwrap_or_else(|| next.max(behind_arrived))
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change's place in its channel's delivery; it goes with the frame.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The channel's.
    pub delivery: Arc<Delivery>,
    /// The change's.
    pub position: Position,
}

/// Pings under way at one time; what is written meanwhile shares the next.
const MAX_PINGS: usize = 8;

/// The receipts of one socket.
#[derive(Debug, Default)]
pub struct Receipts {
    marks: Mutex<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    /// Written and not yet asked about: the last of each channel.
    written: Vec<Mark>,
    /// What the pings under way are about, by their numbers.
    asked: VecDeque<(u64, Vec<Mark>)>,
    pings: u64,
}

impl Receipts {
    /// A frame was written.
    pub fn written(&self, mark: Mark) {
        let mut marks = self.lock();
        let known = marks
            .written
            .iter_mut()
            .find(|known| Arc::ptr_eq(&known.delivery, &mark.delivery));
        match known {
            Some(known) => known.position = mark.position,
            None => marks.written.push(mark),
        }
    }

    /// The ping to write now, if one is due.
    pub fn ask(&self) -> Option<Message> {
        let mut marks = self.lock();
        if marks.asked.len() == MAX_PINGS || marks.written.is_empty() {
            return None;
        }
        marks.pings += 1;
        let (number, about) = (marks.pings, std::mem::take(&mut marks.written));
        marks.asked.push_back((number, about));
        Some(Message::Ping(number.to_be_bytes().to_vec().into()))
    }

    /// A pong came. Gives those whose changes have arrived.
    pub fn receive(&self, payload: &[u8]) -> Vec<Mark> {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else {
            return Vec::new();
        };
        let mut marks = self.lock();
        let until = marks.asked.partition_point(|(asked, _)| *asked <= number);
        let arrived: Vec<Mark> = marks.asked.drain(..until).flat_map(|(_, marks)| marks).collect();
        for mark in &arrived {
            mark.delivery.arrived(mark.position);
        }
        arrived
    }

    /// Whether everything written has its receipt.
    pub fn is_complete(&self) -> bool {
        let marks = self.lock();
        marks.asked.is_empty() && marks.written.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(commit: u64) -> Position {
        Position::new(commit, 0)
    }

    #[test]
    fn a_lost_client_goes_on_with_the_first_change_that_may_not_have_arrived() {
        let delivery = Delivery::default();
        assert_eq!(delivery.resume_at(at(5)), at(5));
        delivery.sent(at(7));
        delivery.sent(at(9));
        assert_eq!(delivery.resume_at(at(20)), at(7));
        delivery.arrived(at(7));
        assert_eq!(delivery.resume_at(at(20)), at(9));
        delivery.arrived(at(9));
        assert!(!delivery.is_underway());
        assert_eq!(delivery.resume_at(at(20)), at(20));
        // the batch it came with is still being delivered
        assert_eq!(delivery.resume_at(at(8)), at(9).next());
    }

    #[test]
    fn who_is_lost_again_before_he_caught_up_goes_on_where_he_was() {
        let delivery = Delivery::default();
        delivery.goes_on_at(at(5));
        assert!(delivery.is_underway());
        assert_eq!(delivery.resume_at(at(20)), at(5));
        delivery.sent(at(7));
        delivery.arrived(at(7));
        assert_eq!(delivery.resume_at(at(20)), at(7).next());
        delivery.caught_up();
        assert_eq!(delivery.resume_at(at(20)), at(20));
    }

    #[test]
    fn a_pong_speaks_for_what_was_written_before_its_ping() {
        let (receipts, delivery) = (Receipts::default(), Arc::new(Delivery::default()));
        let write = |position| {
            delivery.sent(position);
            receipts.written(Mark {
                delivery: Arc::clone(&delivery),
                position,
            });
        };
        assert!(receipts.ask().is_none());
        write(at(1));
        write(at(2));
        let Some(Message::Ping(first)) = receipts.ask() else {
            panic!("no ping")
        };
        write(at(3));
        assert!(receipts.receive(b"another's").is_empty());
        assert_eq!(receipts.receive(&first).len(), 1);
        assert_eq!(delivery.resume_at(at(9)), at(3));
        let Some(Message::Ping(second)) = receipts.ask() else {
            panic!("no ping")
        };
        receipts.receive(&second);
        assert!(receipts.is_complete() && !delivery.is_underway());
        for commit in 10..30 {
            write(at(commit));
            receipts.ask();
        }
        assert_eq!(receipts.lock().asked.len(), MAX_PINGS);
    }
}
