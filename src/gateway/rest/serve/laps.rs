//! What took how long, for the header `Server-Timing`.

use std::{
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The steps of a request, each timed from the end of the one before; nothing where nobody wants to know.
#[derive(Debug)]
pub struct Laps(Option<Mutex<Lap>>);

/// When the step under way began, and those that have ended.
type Lap = (Instant, Vec<(&'static str, Duration)>);

impl Laps {
    /// Begins the first step.
    pub fn start(wanted: bool) -> Self {
        Self(wanted.then(|| Mutex::new((Instant::now(), Vec::with_capacity(5)))))
    }

    /// Ends a step.
    pub fn end(&self, step: &'static str) {
        let Some(laps) = &self.0 else { return };
        let mut laps = laps.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let took = now - laps.0;
        laps.0 = now;
        laps.1.push((step, took));
    }

    /// The header, if it is wanted: milliseconds of every step that has ended.
    pub fn header(&self) -> Option<String> {
        let laps = self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(laps.1.iter().fold(String::new(), |mut text, (step, took)| {
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{step};dur={:.1}", took.as_secs_f64() * 1_000.0);
            text
        }))
    }
}
