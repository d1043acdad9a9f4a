//! Who got which message, and when: every message of a load has a number and is for two people.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, sleep};

/// The messages of a load: their text starts with this, its number and that of the chat.
const MARK: &str = "bench#";

/// What arrived of a load.
pub struct Tally {
    /// For each message when it was committed, in microseconds since 1970; 0 is not known.
    committed: Vec<AtomicU64>,
    /// When the bare reader had it.
    read: Vec<AtomicU64>,
    /// When each of the two had it.
    arrived: Vec<[AtomicU64; 2]>,
    /// First arrivals.
    deliveries: AtomicUsize,
    twice: AtomicU32,
    astray: AtomicU32,
    last: AtomicU64,
}

/// A message as it is found in a frame.
#[derive(Clone, Copy)]
pub struct Note {
    /// Which of the load.
    pub number: usize,
    /// The chat it is of.
    pub session: usize,
}

impl Note {
    /// The text of a message.
    pub fn text(self) -> String {
        format!(
            "{MARK}{} {} Hello, is anybody there who could help me with my order?",
            self.number, self.session
        )
    }

    /// Finds it in a frame or a row.
    pub fn find(text: &str) -> Option<Self> {
        let rest = &text[text.find(MARK)? + MARK.len()..];
        let mut words = rest.splitn(3, ' ').map(str::parse);
        match (words.next()?, words.next()?) {
            (Ok(number), Ok(session)) => Some(Self { number, session }),
            _ => None,
        }
    }
}

impl Tally {
    /// For a load of at most so many messages.
    pub fn new(most: usize) -> Self {
        Self {
            committed: (0..most).map(|_| AtomicU64::new(0)).collect(),
            read: (0..most).map(|_| AtomicU64::new(0)).collect(),
            arrived: (0..most).map(|_| Default::default()).collect(),
            deliveries: AtomicUsize::new(0),
            twice: AtomicU32::new(0),
            astray: AtomicU32::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// How many it has room for.
    pub fn room(&self) -> usize {
        self.arrived.len()
    }

    /// The bare reader has it.
    pub fn read(&self, note: Note, committed: u64) {
        if note.number < self.room() {
            self.committed[note.number].store(committed, Ordering::Relaxed);
            self.read[note.number].store(now(), Ordering::Relaxed);
        }
    }

    /// One of a chat's two has a message.
    pub fn arrive(&self, note: Note, session: usize, person: usize) {
        if note.session != session || note.number >= self.room() {
            self.astray.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let now = now();
        let first = self.arrived[note.number][person].compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        match first {
            Ok(_) => self.deliveries.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.twice.fetch_add(1, Ordering::Relaxed) as usize,
        };
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    /// First arrivals so far.
    pub fn deliveries(&self) -> usize {
        self.deliveries.load(Ordering::Relaxed)
    }

    /// Waits until so many have arrived, or for so long.
    pub async fn complete(&self, deliveries: usize, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.deliveries() < deliveries && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// When the last arrived, in microseconds since 1970.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// From the commit to each of the two, of these messages.
    pub fn delays(&self, numbers: std::ops::Range<usize>) -> Delays {
        let of = |number: usize| {
            let arrived = self.arrived[number].iter().map(|at| at.load(Ordering::Relaxed));
            arrived.filter_map(move |at| self.since_commit(number, at))
        };
        Delays::of(numbers.flat_map(of))
    }

    /// From the commit to the bare reader.
    pub fn read_delays(&self, numbers: std::ops::Range<usize>) -> Delays {
        Delays::of(numbers.filter_map(|number| self.since_commit(number, self.read[number].load(Ordering::Relaxed))))
    }

    fn since_commit(&self, number: usize, at: u64) -> Option<u64> {
        let committed = self.committed[number].load(Ordering::Relaxed);
        (at > 0 && committed > 0).then(|| at.saturating_sub(committed))
    }

    /// What is wrong, of these messages that were committed.
    pub fn faults(&self, numbers: impl Iterator<Item = usize>) -> Faults {
        let missing = |number: usize| {
            self.arrived[number]
                .iter()
                .filter(|at| at.load(Ordering::Relaxed) == 0)
                .count()
        };
        Faults {
            lost: numbers.map(missing).sum(),
            twice: self.twice.load(Ordering::Relaxed),
            astray: self.astray.load(Ordering::Relaxed),
        }
    }
}

/// What may not be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Deliveries that did not come.
    pub lost: usize,
    /// Those that came again.
    pub twice: u32,
    /// Those that came to somebody else.
    pub astray: u32,
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lost, {} twice, {} astray", self.lost, self.twice, self.astray)
    }
}

/// Delays in microseconds, sorted.
pub struct Delays(Vec<u64>);

impl Delays {
    /// Of these.
    pub fn of(delays: impl Iterator<Item = u64>) -> Self {
        let mut all: Vec<u64> = delays.collect();
        all.sort_unstable();
        Self(all)
    }
}

impl std::fmt::Display for Delays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |share: f64| {
            let place = ((self.0.len() as f64 * share) as usize).min(self.0.len().saturating_sub(1));
            self.0.get(place).copied().unwrap_or_default() as f64 / 1e3
        };
        write!(
            f,
            "p50 {:>6.2}  p95 {:>6.2}  p99 {:>6.2} ms",
            at(0.5),
            at(0.95),
            at(0.99)
        )
    }
}

/// Microseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}
